// Package source reads a directory tree of this machine, with all its metadata, and
// passes it to the encoders of [pxar] and [catalog].
//
// A [Tree] is an open directory. [Tree.Unified] and [Tree.Split] write it as an
// archive. [Tree.Total] tells in advance how much there is:
//
//	t, err := source.Open("/etc")
//	defer t.Close()
//	err = t.Unified(ctx, w, cat, "etc.pxar.didx", source.Options{Warn: warn})
//
// # What is stored
//
// Everything below the directory is stored: names in the order of their bytes, mode,
// owner, modification time, extended attributes, capabilities and ACLs, file attributes
// (of ext4 and others, and of FAT), quota project, devices, fifos, sockets. If a
// regular file has several names, it is stored under the first one, and the others are
// hard links to it. Exclude lists, files called .pxarexclude, are files like others: no
// file is left out because of them.
//
// A mount point is stored as an empty directory with the attributes of the mounted
// directory, unless [Options] ask for all file systems. Virtual file systems of the
// kernel (proc, sysfs and the like) are never entered.
//
// # A tree that is in use
//
// A walk keeps descriptors of directories and opens one name at a time, never through a
// symbolic link. So a changed path cannot lead it elsewhere. Each opened file is looked
// at anew: its descriptor decides what is stored.
//
// A file that cannot be read, changes or vanishes is reported to [Options].Warn with
// its path, and the archive stays valid. A file has the size that it had when it was
// opened: if it is shorter by then, zeros are added, and what is new at its end is cut
// off. A directory that cannot be read is stored empty. Only errors of the context, of
// the writers, and of the top directory itself end a walk.
//
// # Limits
//
// Paths may be longer than the kernel accepts. No more than a fixed number of
// descriptors (see maxOpen) is open, however deep the tree: directories further up are
// closed and later opened as the parent of the directory below. They must then be the
// same directories. An archive has at most 1,024 levels; everything below is left out
// with a warning.
//
// A walk keeps in memory the names of the directories that it is in, and of each file
// with several names its state until all names were seen.
//
// A Tree may be used by several goroutines.
package source
