// Package image has the words in which decoders of file systems in disk images speak:
// [FileSystem], [Inode], [Entry], [File].
//
// Each format is a package below this one. A decoder opens nothing. It is given an
// [io.ReaderAt] with each call, and keeps none: what it remembers between calls is bounded
// and was verified, as far as the format has checksums.
//
// # Guarantees of every decoder
//
// No bytes make it panic, loop, or take memory that is not bounded by a constant and a
// small multiple of what was asked for. Whatever cannot be read is an error, never zeros,
// never a name or a byte less: wrong structures match [corrupt.Err] and say which
// structure it is and where it lies; what is encrypted matches [ErrEncrypted]; what the
// decoder does not know matches [ErrUnsupported]. Any other error comes from the source and
// is passed up wrapped.
//
// An object is found by its inode number, never by reading its parents. A hole, and an
// extent that was allocated and never written, is zeros.
//
// All types are safe for concurrent use.
package image
