// Package ntfs reads NTFS.
//
// The number of an object is its file reference: the number of its record in the master
// file table, and in the upper 16 bits how often that record was used again. So a name that
// leads to a record of another file is damage, and seen as such. All records and blocks of
// indexes have their fixups checked.
//
// A directory is read from all blocks of its index that the bitmap says are in use: others
// hold names that were deleted. DOS names are left out, and so are the files of the file
// system itself. Contents may be compressed; what was never written is zeros. The runs of a
// stream are put together from all records that have a part of it before anything is read.
//
// Symbolic links, junctions, and what WSL and Interix store as files, are shown as what they
// mean. A file whose content lies elsewhere (compressed by WOF, deduplicated, in a cloud)
// matches [image.ErrUnsupported] when it is opened, one that is encrypted
// [image.ErrEncrypted]. Other streams of a file are attributes "user.NAME", as ntfs-3g
// shows them, if they are not too large. NTFS has no owners and permissions that Linux
// could use: everything is root's, directories have mode 0555 and files 0444.
//
// The log is not replayed. If the volume is marked dirty, the Note says so.
//
// Facts: the documentation of NTFS by the Linux-NTFS project, and Microsoft's [MS-FSCC] for
// reparse points and [MS-XCA] for LZNT1.
package ntfs
