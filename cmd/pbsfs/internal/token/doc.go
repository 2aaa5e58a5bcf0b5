// Package token keeps the tokens with which programs and people identify themselves to
// pbsfs serve.
//
// A token has an [ID] in the syntax of Proxmox Backup Server, a [Role], and a secret
// that is shown once, when the token is made. [Add], [Remove] and [List] work on the
// token file; [Open] is for the server, which checks each [Credential] against it.
//
// # The file
//
// The token file is JSON, has mode 0600 and is replaced in one step, under a lock. Of a
// secret it has a salt and SHA-256(salt, secret). A slow hash would be wrong here: it
// protects passwords that people choose and others can guess. A secret of ours has 128
// random bits, which nobody guesses at any speed, and a slow hash would only let
// strangers keep the processor busy.
//
// A file that group or others can read or write is refused ([ErrExposed]), and so is
// one with fields that are not known here: they could be restrictions.
//
// # Changes
//
// A [File] looks at each call whether the token file was replaced. So a token that was
// removed ends at once. If the file is exposed, broken or gone, no token is valid until
// it is in order again, and the error says why.
//
// # Guessing
//
// Whether an ID exists does not show in the time that a check takes. [Delays] makes
// each wrong credential of an address wait longer than the one before.
//
// Everything is safe for concurrent use. No lock is held while a file is read or a
// delay passes; only changes of the file hold its lock until they are written.
package token
