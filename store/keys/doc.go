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
// Where keys come from (key files, passphrases, master keys) is no part of
// this package's files so far.
package keys
