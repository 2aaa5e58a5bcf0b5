// Package superblock tells from the bytes of a block device what is on it: the type of
// a file system, its UUID and label, and whether it was left without an unmount. It
// also recognizes contents that are often taken for a file system (encrypted devices,
// swap, parts of a RAID or a volume group).
//
// It opens nothing and trusts nothing. It looks for each format at fixed places and
// reads a few kilobytes at most. If the bytes of a format make no sense, the format is
// not there. Types have the names that mount(8) and blkid(8) use. The formats are those
// of the kernel's headers; other metadata of a file system is not read.
package superblock
