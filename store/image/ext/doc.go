// Package ext decodes ext2, ext3 and ext4.
//
// # Shape
//
// [Open] reads the superblock and, if the file system was not unmounted, its log. From
// there everything is found by inode number: the descriptor of the group has the place of
// the inode table, the inode has the map of its content (an extent tree, or pointers to
// indirect blocks, or the content itself), and a directory is a file of records.
//
//	superblock.go, backup.go  the superblock, its checksum and features, its copies
//	group.go, inode.go        descriptors and inodes
//	extent.go, indirect.go    maps of content, both behind mapping.go
//	file.go, link.go          content and targets
//	directory.go, lookup.go   names
//	xattr.go, acl.go          attributes in inodes, in blocks, and in inodes of their own
//	inline.go                 content and names within an inode
//	device.go                 reading blocks, with the log in front of them
//	journal.go, replay.go, fastcommit.go  the log
//
// # Checksums
//
// With metadata_csum the superblock, descriptors, inodes, directory blocks, nodes of hash
// trees, blocks of extent trees and blocks of attributes are verified before anything in
// them is used, and so are values of attributes in inodes of their own; with uninit_bg the
// descriptors are. Bitmaps are not read. What is remembered is either verified or verified
// each time it is used.
//
// # The log
//
// What a mount would replay is replayed, in memory: only a table from block to place in the
// log is kept, of at most a million blocks, and each read looks there first. Blocks and
// commits are verified as the log's features say. A log that cannot be replayed (it
// is damaged, lies on another device, is too large) leaves the file system as it was when
// the machine stopped, and Note says so; Note also tells of fast commits, which are not
// replayed.
//
// # Names
//
// Directories are read block by block; the inner nodes of hash trees look like empty blocks
// there, so a listing and a lookup agree even when such a tree is wrong. To find names fast a
// small table from the hash of a name to its block is kept for the directories used last.
// Names of a directory with casefold are as stored.
//
// # Encryption
//
// Names, targets and content that fscrypt has encrypted give [image.ErrEncrypted];
// attributes of such objects can be read.
//
// Facts are from the kernel's documentation of ext4 ("Data Structures and Algorithms") and
// of jbd2, and from what the kernel shows of images made for the purpose.
package ext
