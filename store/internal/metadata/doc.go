// Package metadata caches the metadata of archives whose contents and metadata lie in
// the same chunks, so that a listing need not read the chunks.
//
// A [Piece] is what is known of one chunk, byte for byte. Pieces are made from verified
// chunks only, and the decoder that reads chunks also reads their bytes. So an answer
// is the same with and without a piece.
//
// A [Cache] keeps pieces in memory, bounded in bytes, and in one file for each archive.
// The files lie below a directory of their own, which is no part of a datastore. They
// may be deleted at any time, and are bounded in bytes: the file that was used longest
// ago is removed first. The name of a file is the checksum of the archive's index, so
// its content cannot be out of date. A file is written whole, first under another name.
// Each record has a checksum of its own; a damaged record counts as missing.
//
// A goroutine writes new pieces after a second and then ends: a cache that is not used
// does nothing and holds nothing open.
//
// Lock order: Cache.writing, then Cache.mu, which is a leaf.
package metadata
