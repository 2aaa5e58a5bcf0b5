// Package store is a Proxmox Backup Server datastore on disk.
//
// # Rights
//
// What code may do to a datastore is in the type of the reference it holds:
//
//   - [*Lookup], got by [Open]: names and values already in memory. It cannot
//     do I/O and holds no descriptor. It counts as nothing.
//   - [*Reader], got by [Lookup.Acquire] for as long as a handle is open or by
//     [Lookup.View] for one call: may read. It counts as one read operation
//     until it is released.
//   - [*Writer], got by [Lookup.AcquireWriter]: may read and write. It counts
//     as one write operation until it is released.
//
// Functions that read take a [CanRead], functions that write a [CanWrite].
// Both interfaces are sealed, and no other package can open a datastore: to
// read through a Lookup is a compile error. The zero value of each reference
// answers [ErrReleased].
//
// # What is open when
//
// The datastore's directory is opened when the first operation needs it and
// closed when the last operation ends, before package maint says that we do
// nothing any more. Files below it are opened, read and closed within a call.
// Idle, nothing of a datastore is open, mapped or locked.
//
// # What is written
//
// A [SnapshotWriter] makes files, and never changes one. A chunk that is there is
// used again, after its access time has moved: a garbage collection that begins
// later sees that it is young. While a snapshot is written, its directory and its
// group's are locked exclusively and the datastore's lock file is locked shared,
// as a server does it; these three descriptors go when the writer ends. The
// manifest is written last, after everything else is on stable storage, so that
// there is a whole snapshot or none.
//
// # What is believed
//
// Nothing. A chunk is verified by checksum and digest before a byte of it is
// used; an index by the checksum and size in the manifest; an archive's
// offsets before they are followed. What is wrong is an error that matches
// [ErrCorrupt], as a [*Error] that says in which snapshot and file.
//
// # Locks
//
// medium.mu and the locks of the caches are leaves, held for map operations
// only, never across I/O or a call into maint. linkTable.settling is held while
// the hard links of one archive are counted, which reads; no other lock is
// taken under it but leaves.
package store
