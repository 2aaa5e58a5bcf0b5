// Package source reads a directory tree of this machine, with all its metadata,
// and has the encoders of [pxar] and [catalog] write it down.
//
// A [Tree] is an open directory. [Tree.Unified] and [Tree.Split] write it as an
// archive, [Tree.Total] tells ahead how much there is:
//
//	t, err := source.Open("/etc")
//	defer t.Close()
//	err = t.Unified(ctx, w, cat, "etc.pxar.didx", source.Options{Warn: warn})
//
// # What is stored
//
// Everything below the directory: names in the order of their bytes, mode, owner,
// modification time, extended attributes, capabilities and ACLs, file attributes
// (of ext4 and others, and of FAT), quota project, devices, fifos, sockets. Of
// several names of a regular file the first holds it, and the others are hard
// links to it. Exclude lists, files called .pxarexclude, are files like others:
// nothing is left out because of them.
//
// A mount point is an empty directory with the attributes of what is mounted
// there, unless [Options] ask for all file systems. What the kernel makes up
// (proc, sysfs and the like) is never entered.
//
// # A tree that is in use
//
// A walk holds on to directories by their descriptors and opens one name at a
// time, never through a symbolic link, so that nobody can lead it elsewhere by
// changing a path. What is opened is looked at again: its descriptor says what is
// stored.
//
// What cannot be read, changes or vanishes is told to [Options].Warn with its
// path, and the archive stays valid. A file has the size it had when it was
// opened: what is missing at its end is zeros, what is new is cut. A directory
// that cannot be read is stored empty. Only errors of the context, of the
// writers, and of the top directory itself end a walk.
//
// # Limits
//
// Paths may be longer than the kernel takes. No more than a fixed number of
// descriptors (see maxOpen) is open, however deep the tree: directories further
// up are closed and opened again as the parent of the one below, and must be the
// same. Archives end at 1,024 levels; what lies deeper is left out with a warning.
//
// A walk holds the names of the directories that it is in, and what it knows of
// files with several names until it has seen them all.
//
// A Tree may be used by several goroutines.
package source
