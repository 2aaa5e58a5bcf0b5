// Package volumes finds what lies on the disks of a machine: partitions, file systems right
// on a disk, and logical volumes that may lie on several disks.
//
// [Scan] looks at all disks together. Each [Volume] is either a file system that one of the
// decoders can read, or it has a Reason for people why none can. A file system right on a
// disk hides everything else on it. What could not be read while looking is the Err of the
// volume, or of the disk.
//
// A Layout is in memory and holds nothing open; a volume is read through the disks that
// are given with each call.
package volumes
