// Package catalog reads and writes catalogs, the stream in
// "catalog.pcat1.didx" that lists the directory trees of all archives of a
// snapshot (reference "catalog").
//
// A catalog has names, types, and for regular files size and modification
// time; it serves to find something without reading the archives. [Open]
// checks the frame of the stream, [Catalog.Walk] visits one archive's tree,
// [Catalog.ReadDir] reads a single directory. None of them keeps the stream: the
// caller passes a reader each time, so that it decides how long chunks and
// handles are held. A [Catalog] and a [Directory] are immutable and safe for
// concurrent use.
//
// The stream comes from a client and is hostile:
//
//   - A directory must end where its parent begins or before. So every walk
//     ends, and the directories on the way to an entry, whose tables are held
//     in memory, do not overlap. Each of them and all together are limited.
//   - Two parents can share a child, which would let a small catalog describe
//     an endless tree. In an honest one no byte is visited twice, therefore a
//     walk ends with an error when it has read more bytes of directories than
//     the stream has.
//   - Nothing is allocated by a count; an entry is at least two bytes of a
//     table that was read.
//   - Entries whose name is none ("..", something with '/' or NUL) are
//     skipped, a directory with all that is below it. Names need not be UTF-8.
//
// An [Encoder] writes a catalog while the archives it lists are made.
//
// Complaints about bytes match corrupt.Err. They can come after entries have
// been visited: what was visited before is as good as the rest of the catalog
// is bad.
package catalog
