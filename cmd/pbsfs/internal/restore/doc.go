// Package restore writes what is in a datastore to a directory, a file or a block device
// of this host, with all its metadata, without FUSE.
//
// [Tree] restores files and directories below a directory, [Image] one image to a block
// device or a file. Both read with a right of the caller's, who holds the snapshots.
//
// # Nothing outside TARGET
//
// TARGET is opened once. Below it, everything is done with the descriptor of the directory
// and one name, and no symbolic link is followed, whatever the archive says or others do
// there meanwhile. An existing file is never opened for writing. A directory that was
// opened before is opened again only if it is the same one, by device and inode. A
// directory that others move away while it is written to is still the one that was made
// here; nothing else is reached through it.
//
// # Complete or not there
//
// A regular file is written without a name, gets its metadata, and then its name; where a
// file system has no such files, and for links and devices, it has a temporary name until
// then ([temporary]). It never replaces anything unless that was asked for. A directory
// has mode 0700 until all below it is done, and its own metadata last. The flags that
// forbid changes come last of all.
//
// While a restore into an empty directory runs, TARGET has a marker ([markerName]), which
// is locked, and says what is restored. With it, the same command goes on after it was
// killed: what is there is complete, except for the metadata of directories.
//
// # Errors
//
// What cannot be restored whole is not there, is reported, and does not stop the rest.
// The exceptions are what would go wrong with everything else as well: no space, a disk
// that fails, a datastore that is gone. What this user or the file system of TARGET cannot
// hold, such as owners, is counted by kind and cause.
//
// # Order, goroutines and memory
//
// One goroutine walks in the order in which the archive is stored, and makes directories.
// As many writers as there are processors write the rest, out of a short queue; Tree waits
// for all of them. Memory is bounded but for the identities of hard links whose other
// names are still to come. A mutex here is a leaf, and no I/O is done under one.
package restore
