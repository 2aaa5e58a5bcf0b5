// Package maint keeps pbsfs and a Proxmox Backup Server out of each other's
// way: it counts the operations on a datastore where PBS counts its own, and
// obeys and sets the maintenance mode where PBS does. It does not know what a
// chunk is, and nothing in it opens a file of a datastore.
//
// # Counting
//
// An [Operations] counts what one process does with one datastore. Begin
// returns a [Guard], which counts as one operation until its Release:
//
//	guard, err := ops.Begin(ctx, maint.Read)
//	if err != nil {
//		return err // a *ModeError, a *RegisterError, ErrClosed or the context's
//	}
//	defer guard.Release()
//
// When Begin returns a Guard, every other process sees our operation in PBS's
// operations file, and no mode that forbids it had been set before. An operation that
// cannot be counted is refused: because the lock is stuck, because the file is garbled
// or not writable, or because PBS's processes cannot be seen. errors.Is finds
// [ErrUncounted] in the error.
//
// The file is written only when this is necessary, not at each operation:
//
//		idle ── Begin: register ──▶ active ── last Release, linger ──▶ closing ──▶ idle
//		                            │    ▲                             Drop, then
//		                            └────┘ Begin, Release: in memory   our entry goes
//
//	  - idle → active: the keeper takes PBS's config lock and the operations file's
//	    lock. It reads the mode, publishes what the mode allows, counts the waiting
//	    operations and releases both locks. Check and count are one step: a process
//	    that sets a mode holds the same lock while it sums what is published.
//	  - active: the file counts at least one operation of that kind, so Begin
//	    takes no lock. It counts first, then looks whether datastore.cfg has
//	    changed, and takes its count back if the mode forbids the operation. The
//	    first write among reads is published like the first operation, because
//	    read-only maintenance looks at writes only.
//	  - closing: 100 ms after the last Release, or at once under a mode that
//	    forbids reading, [Options].Drop closes everything below the datastore, and
//	    then our entry is removed. Operations that begin meanwhile wait, each as
//	    long as its context allows. So the file counts us for as long as anything
//	    is open, and an umount that waits for a count of zero cannot meet EBUSY.
//
// Meanwhile the published counts serve for display and may be up to a second old, but
// they are never zero for a kind that is active. The counts in memory are exact. The
// entry of a process ends with the process: an entry counts only while its process,
// which is told by pid and start time, runs.
//
// Only the present contents of the file count, not what was once written to it. While
// operations are active, each Begin looks whether the file still has our entry, and the
// keeper does so twice a second. A lost entry is published again before any other
// operation begins; when none is active, what lingers ends at once. A file that cannot
// be read is left alone, because it may hold the counts of others; no operation begins
// then.
//
// Other processes' entries are kept byte for byte. PBS's own daemons are listed before
// us, with zero operations, because a PBS before 4.0.21 would otherwise not list itself
// at all; see reference "operations-and-maintenance", section 1.
//
// # Namespaces
//
// A pid has a meaning only in its pid namespace. We count under the pid that /proc
// gives us, with the start time by the machine's clock. The pids in a run directory are
// those of the namespace that has claimed it (by a lock on the file pid-namespace), or
// those of the server that owns it. A process of another namespace does not decide
// there which processes are alive. It counts in a directory of its own below guests,
// which every process adds up for as long as the lock in it is held. Beside a server,
// which would not see that directory, such a process is refused.
//
// # Other users
//
// Root believes an ordinary user's files only in what they say of that user's own live
// processes. It opens them beneath the user's directory, and only if they are plain
// files that belong to the user. The [Tally] reports what is wrong with them. A user
// who does not release root's config lock loses it after two seconds: root replaces the
// lock file, and a process that registered under the old one registers again. If a
// user's run directory was removed at the end of the last session, the user's mounts
// count in a spare directory below /tmp, where root looks as well.
//
// # Modes
//
// [ReadMode], [SetMode] and [ClearMode] work on the property maintenance-mode in
// datastore.cfg. A mode that cannot be read counts as offline. SetMode sums the
// conflicting operations and writes the mode under one lock, or it refuses with a
// [*ConflictError] and changes nothing. With Drain it sets the mode first, and
// [WaitIdle] waits. An edit replaces the file in one step and changes only the bytes of
// one line. PBS learns of the change by its generation counter and its control socket.
//
// # Names
//
// One datastore may have several entries in datastore.cfg, and many paths may lead to
// it. It is identified by what it is, see package identity. Operations are published
// under the names of all its entries, or, if it has no entry, under a name made of its
// identity; the modes of all its entries bind. A datastore that was listed and no
// longer is has the mode [cfg.Unlisted], which counts as offline. An entry whose place
// does not answer in time counts by its name alone.
//
// # Places
//
// A [hosts.Host] says where all these files are: those of PBS, or, on a host without
// PBS, those of root or of an ordinary user. The modes in root's datastore.cfg bind an
// ordinary user too, who holds that file's lock shared while registering.
//
// # Locks
//
// In the order in which they are taken:
//
//  1. the config lock, PBS's .datastore.lck (a user takes the own one first, then
//     root's, shared);
//  2. a datastore's operations lock;
//  3. Operations.mu, or one of the small mutexes in [modes.Source] and shareTable,
//     of which none is held while another one is taken.
//
// The first two are held while datastore.cfg is read and small files are written, and
// across nothing else; above all, no place of a datastore is looked at under them. The
// third is held across no I/O at all. An attempt to take a file lock ends after 10 s,
// with an error that names the lock and its holder. No process waits for the claim of a
// run directory: a process that cannot have it is a guest. Callbacks are called with no
// lock held.
//
// Each Operations has at most two goroutines. The keeper publishes; it exists only
// while something is open or an operation waits. The watcher looks at the mode for idle
// mounts; it exists only if a callback wants to be told. Close waits for both.
package maint
