// Package export writes what is in a datastore for download: a directory of a
// [tree.Tree] as an archive ([Zip], [Tar], [TarZstd]), or the content of a file ([Copy],
// [Seeker]).
//
// Names in an archive begin with the name of the directory. A zip has directories,
// regular files and symbolic links, with their modes and times; a hard link is one more
// file. A tar has everything but sockets and quota projects: owners, devices, hard links,
// nanoseconds, extended attributes, ACLs and file flags, too, in the records that tar and
// libarchive have for them.
//
// # Damage
//
// An archive is whole or has no end. Whatever cannot be read (an entry of a listing, a
// child, a chunk) ends the writing with an error: the zip then has no central directory,
// and the zstd frame of a tar is cut off, so no client takes it for whole. If nothing
// was written until then, a server can still answer with an error; otherwise it must
// break off the connection.
//
// # Hostile archives
//
// Backups can be made by anybody. A name that would lead out of its directory is an
// error, and so are too many entries or levels ([ErrLimit]). Each child is looked up by
// its name, so two entries of one name are the same object and none can be a link
// through which the other is unpacked. Symbolic links are written as they are and never
// followed. A backslash is an ordinary character of a name here; programs that unpack
// on other systems have to see to it.
//
// # Memory
//
// Archives are streamed. Apart from buffers, memory is needed for the directories on
// the way to the present object, for the central directory of a zip (several hundred
// bytes for each of a million entries at most), and for up to 32 MiB of the paths of hard
// links. The functions
// start no goroutines and hold nothing after they return; the caller holds the right.
package export
