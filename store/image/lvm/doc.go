// Package lvm reads volume groups of LVM2: which logical volumes there are, and where the
// bytes of each lie on the physical volumes.
//
// A physical volume is found by its label, and has a copy of the text that describes its
// group. The copy with the highest sequence number counts, and only one whose checksum is
// right. Volumes that are linear or striped can be read, on any number of disks. Others
// (thin, cached, mirrored ones) are listed, with the reason why they cannot be read; so are
// volumes with a part on a disk that is not there. Volumes that are parts of others, and
// not meant to be seen, are left out.
//
// The text is bounded in size, depth and number of items. Everything in it is compared
// with the physical volumes before it is used.
//
// Facts: the on-disk format as the manual pages of LVM2 and its own backups of the text
// show it.
package lvm
