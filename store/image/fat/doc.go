// Package fat reads FAT12, FAT16 and FAT32, with long names.
//
// The number of an object is the place of its entry in a directory, in units of 32 bytes;
// the top directory has number 1. Names are UTF-8; short ones are read as code page 437,
// with the marks for lower case that Windows sets. What FAT does not have is shown as
// Linux does: everything belongs to root, directories have mode 0755, files 0755, or 0555
// if they are read-only. Times are taken as UTC.
//
// FAT has no checksums, but for long names. So damage that leaves a possible structure
// cannot be seen. A chain of clusters that ends early, leads out of the disk or back into
// itself is an error for what depends on it, as is a long name whose parts do not belong
// together with the entry that follows: the entry is then shown by its short name, as
// Linux does.
//
// Facts: Microsoft's "FAT32 File System Specification" of 2000.
package fat
