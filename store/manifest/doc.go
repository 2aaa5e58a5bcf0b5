// Package manifest reads and writes manifests, the "index.json.blob" of a
// snapshot that lists its files (reference "datastore-layout", sections 6 and 7).
//
// [Decode] takes the encoded file. A manifest is never encrypted, and it is
// limited in both its encoded and its decoded length. What must be right for
// the snapshot to be shown at all (a JSON object, backup type, id and time, a
// list of files) is an error that matches corrupt.Err. What concerns one file
// only (a name that could leave the directory, a size or checksum that is
// none) takes that file out of [Manifest.Files] and into [Manifest.Problems]:
// the rest can be read, and a caller can say that something is missing. The
// first of several entries of one name counts, usable or not.
//
// The server does not check what clients put into a manifest, so nothing in
// it is trusted: names are parsed, and [Manifest.Matches] tells whether the
// manifest lies in the snapshot that it was written for. JSON is read the way
// the server reads it: keys in their exact case, the last of several equal
// keys counts.
//
// The fields under "unprotected" can be changed on the server and are not
// signed; they serve to show and to choose a key, and what is wrong with them
// goes to [Manifest.UnprotectedProblems]. The signature itself is not checked
// here. [Manifest.Raw] keeps the text that it is computed from.
//
// A [Draft] is what a writer has; [Draft.Encode] checks that it will be read as
// it is meant, signs it where there is a key, and prints it as official
// programs do.
package manifest
