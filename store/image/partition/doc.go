// Package partition reads the partition tables of disk images: MBR with logical
// partitions, and GPT with its copy at the end of the disk.
//
// The numbers of partitions are those that Linux gives them. A table is believed in what
// it says, cut to the disk: a partition that begins behind its end is left out, and one
// that goes beyond it is shortened. A GPT is used if its checksums are right; if the first
// one is damaged or missing, the copy is. Sectors have 512 bytes, or 4096 if the GPT says
// so by its place.
//
// The first sector of many file systems ends with the signature of an MBR. So callers look
// for a file system first, and a sector whose entries cannot be those of an MBR is no
// table.
//
// Facts: the UEFI specification, chapter 5, and for logical partitions what Linux does.
package partition
