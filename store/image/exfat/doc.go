// Package exfat reads exFAT.
//
// The number of an object is the place of its first entry in a directory, in units of 32
// bytes; the top directory has number 1. Names are UTF-8. What exFAT does not have is shown
// as Linux does: everything belongs to root, directories and files have mode 0755, or 0555
// if they are read-only.
//
// The boot region and each set of entries have checksums, which must be right. What was
// allocated and never written is zeros. A file whose clusters lie side by side has no chain
// in the allocation table.
//
// Facts: Microsoft's "exFAT file system specification" of 2019.
package exfat
