// Package keys holds the data keys of encrypted backups and what is computed
// with them (reference "encryption-keys", sections 1 and 2).
//
// A [Key] is made from the 32 bytes of an encryption key. From these a second
// key is derived, the id key, which names chunks ([Key.Digest]), signs
// manifests ([Key.Sign]) and identifies the key itself ([Key.Fingerprint]).
// The encryption key opens chunks and blobs ([Key.Open]).
//
// A Key is immutable and safe for concurrent use. It never gives its bytes
// away: however it is printed or logged, only the short fingerprint shows, and
// a struct with a Key inside is safe to print, too.
//
// Keys come from key files ([ParseFile]), which a passphrase may protect, or out
// of a snapshot by means of a [Master] key. Both are files of somebody's, and may
// be anything: what they ask to be computed is bounded before it is begun. Where
// files and passphrases are found is no matter of this package.
package keys
