// Package fs is the FUSE face of a datastore: it shows a [tree.Tree] to the
// kernel. It is the only package that knows go-fuse and errno, and it cannot
// open a file of a datastore.
//
// # Inodes and handles
//
// An inode says where: it holds a [store.Lookup] and a [tree.Node], and nothing
// open. A handle says may: it holds the [store.Reader] that was acquired when
// it was opened, until it is released. Only handles have Read, so that nothing
// is read that is not counted.
//
//   - LOOKUP takes a View for its own duration, unless memory can answer.
//   - GETATTR, READLINK and small extended attributes come from the inode.
//   - OPEN, and OPENDIR inside a snapshot, acquire a Reader and keep it.
//     OPENDIR above the snapshots reads its listing under View and keeps no
//     count.
//
// # Identity
//
// Inode number and generation are 128 bits of [tree.ID]. go-fuse takes equal
// ones for the same file: of several inodes that we give it, it uses the first,
// and does not say so. So the inodes of one identity share one object, in which
// each lookup leaves what it found; the full ID is compared there, and whatever
// comes out equal to a different object in use gets EIO.
//
// # Caching
//
// What lies inside an archive never changes and is remembered by the kernel
// for ever, as are images. Everything above changes: it is remembered for half
// a second, and the few files there are read directly.
//
// # Locks
//
// filesystem.mu guards the table of open handles and the last known figures; it
// is a leaf, never held across a call out of this package. dirHandle is called
// by go-fuse under a lock of its own, one request at a time.
package fs
