// Package store is a Proxmox Backup Server datastore on disk.
//
// # Rights
//
// The type of a reference to a datastore says what code may do with it:
//
//   - [*Lookup], got by [Open]: names and values already in memory. It cannot
//     do I/O and holds no descriptor. It counts as nothing.
//   - [*Reader], got by [Lookup.Acquire] for as long as a handle is open or by
//     [Lookup.View] for one call: may read. It counts as one read operation
//     until it is released.
//   - [*Writer], got by [Lookup.AcquireWriter]: may read and write. It counts
//     as one write operation until it is released.
//
// Functions that read take a [CanRead], functions that write a [CanWrite]. Both
// interfaces are sealed, and no other package can open a datastore. So an attempt to
// read through a Lookup is a compile error. The zero value of each reference answers
// [ErrReleased].
//
// # What is open when
//
// The datastore's directory is opened when the first operation needs it. It is closed
// when the last operation ends, before package maint publishes that we have none. Files
// below it are opened, read and closed within one call. Without operations, nothing of
// a datastore is open, mapped or locked.
//
// # What is written
//
// A [SnapshotWriter] makes files, and never changes one. It uses an existing chunk
// again after setting its access time, so that a garbage collection that begins later
// sees that the chunk is young. While a snapshot is written, its directory and its
// group's directory are locked exclusively and the datastore's lock file is locked
// shared, as a server does; these three descriptors are closed when the writer ends.
// The manifest is written last, after everything else is on stable storage, so there is
// either a whole snapshot or none.
//
// # What is trusted
//
// Nothing. A chunk is verified by checksum and digest before a byte of it is used, an
// index by the checksum and size in the manifest, and an archive's offsets before they
// are followed. Wrong bytes are an error that matches [ErrCorrupt], as a [*Error] that
// names the snapshot and file. Only a [Salvaged] content, which [Options.Salvage] asks for,
// has zeros instead.
//
// # Locks
//
// directory.mu, presence.state and the locks of the caches are leaves. They are held for map operations
// only, never across I/O or a call into maint. linkTable.settling is held while the
// hard links of one archive are counted, which reads from disk; only leaf locks are
// taken under it.
package store
