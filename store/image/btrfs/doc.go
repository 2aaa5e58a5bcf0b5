// Package btrfs decodes btrfs.
//
// # Shape
//
// [Open] reads the superblock, the chunk tree, and the entry that names the default subvolume,
// which is what a mount shows without being told otherwise. Everything else is an item in a
// tree, found by its key: the number of an object, the kind of the item, and an offset whose
// meaning depends on the kind.
//
//	superblock.go             the superblock, its copies, and what is refused
//	chunk.go, device.go       from logical addresses to offsets in the image, and copies
//	node.go, tree.go, key.go  tree blocks, and finding items
//	root.go, number.go        trees, subvolumes, and numbers that are unique over them
//	inode.go, directory.go, xattr.go, link.go  objects
//	extent.go, file.go        the map of content
//	content.go                reading it, with its checksums
//	compress.go, lzo.go       zlib, zstd, lzo
//	checksum.go, xxhash.go    crc32c, xxhash64, sha256, blake2b
//
// # Subvolumes
//
// The top directory is that of the default subvolume. A subvolume below is entered as a
// directory where the tree of roots says that it is mounted. Anywhere else, as in a
// snapshot of the subvolume that has it, it is an empty directory, as the kernel shows it.
//
// The kernel numbers objects by subvolume and tells them apart by device. Here objects of the
// default subvolume have the kernel's numbers, and those of others have the number of the tree in
// their upper bits. A number depends on nothing but the image.
//
// # Devices
//
// Chunks of the profiles single, dup and raid1 (raid1c3, raid1c4) are read if there is a copy on
// this device; if not, what lies there is [image.ErrUnsupported]. Profiles that spread content
// over devices (raid0, raid10, raid5, raid6) are refused by Open, and so are zoned devices,
// seeds, extent-tree-v2, raid-stripe-tree, and whatever else is marked as incompatible.
//
// # Checksums
//
// Every tree block is verified before anything in it is used: its checksum, its address, the file
// system it belongs to, its layout, and, each time it is reached, that level, generation, owner and
// keys are those that the parent has for it. Content is verified by the checksum tree, but for files
// that say that they have none (nodatasum, which comes with nodatacow): a sector with no checksum
// elsewhere is damage. Where there are two copies, the second is read if the first cannot be
// read or is wrong.
//
// As children have only keys between those of their neighbours, no tree, whatever
// bytes it consists of, leads to a block twice within one scan, and none is deeper than eight levels.
//
// # The log
//
// What fsync(2) wrote since the last commit is in a log, which is not replayed: LogDirty and Note say so.
//
// Facts are from the documentation of the btrfs developers ("On-disk format"), the kernel's
// documentation of LZO streams, the specification of xxHash, and from what the kernel shows of images
// made for the purpose.
package btrfs
