// Package metadata remembers the parts of archives that are not content: what a
// listing reads of an archive whose content and metadata lie in the same chunks.
//
// A [Piece] is what is known of one chunk, byte for byte. Pieces are made from
// verified chunks only, and their bytes are read by the same decoder as the
// chunks': it makes no difference to an answer whether a piece is there.
//
// A [Cache] keeps pieces in memory, bounded in bytes, and in one file for each
// archive below a directory of its own, which is no part of a datastore: safe to
// delete at any time, bounded in bytes, the file used longest ago going first. A
// file is named by the checksum of the archive's index, so that what is in it
// cannot be out of date. It is written whole, under another name first. Each
// record has a checksum of its own; what is damaged is not there.
//
// What was found is written a second after, by a goroutine that then ends: a
// cache that nobody uses does nothing and holds nothing open.
//
// Lock order: Cache.writing, then Cache.mu, which is a leaf.
package metadata
