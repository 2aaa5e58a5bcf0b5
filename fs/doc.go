// Package fs is the FUSE face of a datastore: it shows a [tree.Tree] to the
// kernel. It is the only package that knows go-fuse and errno, and it cannot
// open a file of a datastore.
//
// # Inodes and handles
//
// An inode names a place: it holds a [store.Lookup] and a [tree.Node], and nothing
// open. A handle gives a right: it holds the [store.Reader] that was acquired when it
// was opened, until it is released. Only handles have Read, so every read belongs to a
// counted operation.
//
//   - LOOKUP takes a View for its own duration, unless memory can answer.
//   - GETATTR, READLINK and small extended attributes come from the inode.
//   - OPEN, and OPENDIR inside a snapshot, acquire a Reader and keep it.
//     OPENDIR above the snapshots reads its listing under a View, and counts as an
//     operation only for that time.
//
// # Identity
//
// Inode number and generation are 128 bits of [tree.ID]. go-fuse takes inodes with
// equal numbers for the same file: of several such inodes it silently uses the first.
// So the inodes of one identity share one object, and each lookup stores its result
// there. The object compares the full ID. If an ID comes out equal to that of a
// different object in use, the answer is EIO.
//
// # Caching
//
// The contents of archives and images never change, so the kernel may cache them for
// ever. Everything above them changes: the kernel caches it for half a second, and
// reads the few files there directly. So it does with files that may have zeros in the
// place of damaged chunks ([store.Options.Salvage]).
//
// # Locks
//
// filesystem.mu guards the table of open handles and the figures of the last statfs. It
// is a leaf, never held across a call out of this package. go-fuse calls dirHandle
// under a lock of its own, one request at a time.
package fs
