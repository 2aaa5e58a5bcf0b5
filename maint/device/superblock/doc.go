// Package superblock tells what lies on a block device from its bytes: the type
// of a file system, its UUID and label, whether it was left without being
// unmounted, and what is no file system but is often taken for one (encrypted
// devices, swap, parts of a RAID or a volume group).
//
// It opens nothing and believes nothing: each format is looked for at fixed
// places, reads are a few kilobytes at most, and bytes that make no sense are a
// format that is not there. Types are called what mount(8) and blkid(8) call
// them. The formats are those of the kernel's headers; what a file system says of
// itself beyond this is not looked at.
package superblock
