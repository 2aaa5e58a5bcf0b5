// Package index reads and writes fixed and dynamic indexes, the files that say
// of which chunks an archive or image consists (reference
// "blobs-chunks-indexes", sections 3 to 5 and 8).
//
// [Read] takes an index file from an [io.Reader] and checks all of it once:
// header, length, order and sizes of the entries, and it computes the checksum
// over the entries; [Parse] does so with one in memory. After that an [Index]
// can only be right in form, and its methods do no checks on bytes. Whether it
// is the index that was backed up is for the caller to say, who compares
// [Index.Csum] and [Index.Size] with the manifest; the checksum in the index's
// own header protects nothing and is not looked at.
//
// An Index keeps its entries as they are in the file, in pages, of which one
// that holds the same entry throughout, as holes of images do, is kept as that
// entry; see [Index.MemSize]. It is immutable and safe for concurrent use.
//
// A [DynamicWriter] takes chunks one after the other, a [FixedWriter] in any
// order; both return the complete file. They accept what the readers accept,
// nothing else, so that no index is written that cannot be read. An index that
// is written anew from an old one, as for an image of which parts are known,
// gets its digests from [Index.Span].
//
// Nothing is allocated by what a header says. An index without entries is
// refused, as it is by the official reader: no data is no archive. All other
// complaints about bytes match corrupt.Err, too.
package index
