// Package xfs shows an XFS in an image: versions 4 and 5, the latter with checksums.
//
// [Open] reads the superblock and looks at the log; an [FS] remembers numbers and blocks,
// and is given the bytes of the image with each call.
//
// # How an object is found
//
// The disk is divided into groups of the same size. The number of an inode says where it
// lies: its group, the block within it, and the place in the block. An inode has two forks,
// one for content and one for attributes. A fork is in the inode itself, or a list of
// extents, or a btree of extents whose root is in the inode (fork.go, bmbt.go).
//
// The content of a directory is a space in which names come first, at 32 GiB an index of
// their hashes, and at 64 GiB a table of free space. A listing reads the names only; a
// lookup goes through the index, and through the names where the index does not answer.
//
// # Guarantees
//
// In version 5, the checksum of every block is verified, and that it belongs to this file
// system, to this place and to the inode that led to it. An inode says its number. Version
// 4 has magic numbers and bounds only: wrong bytes within them are not noticed.
//
// Names, targets, and attributes are shown as they are stored. ACLs are shown as the kernel
// shows them to root: as attributes of system.* in its form, and of trusted.* in that of
// the disk. Links from files back to their directories, and attributes that were being
// written, are not shown.
//
// # The log
//
// What is in the log and perhaps not in its place is replayed in version 5, as a mount does
// it: all transactions that were committed, in their order, but for changes of buffers that
// were given up later (log.go, record.go, replay.go, changes.go, loginode.go). What it
// changes is kept in memory, in an overlay over the image, of 48 MiB at most. The log has no
// checksums of blocks, so that those of changed blocks are not compared; it has its own.
// Operations of several transactions that were under way are not taken to their end: what
// they still had to do is mostly to free space, and where it is more, a note says so.
//
// A log that cannot be replayed, because it is damaged, on another device, too large, or
// that of version 4, is left out: all is as after a mount with norecovery. [FS.Note] says
// so, and [FS.LogDirty]. Then some blocks are older than others, which shows as damage
// where they do not fit.
//
// # Limits
//
// Not shown is what is on a realtime device; metadata directories, zones and unknown
// incompatible features are refused. Where the first superblock is damaged, that of the
// next group is used, which is looked for where mkfs puts it.
//
// # Sources
//
// The structures are those of "XFS Algorithms & Data Structures" (3rd edition), and of the
// kernel's documentation of XFS for what came later.
package xfs
