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
// When Begin returns a Guard, every other process sees in PBS's operations file
// that we have an operation of that kind, and no mode that forbids it was set
// before. Whatever cannot be counted (the lock is stuck, the file is garbled or
// not writable, PBS's processes cannot be seen) is refused: errors.Is finds
// [ErrUncounted].
//
// The file is written when it has to be, not at each operation:
//
//		idle ── Begin: register ──▶ active ── last Release, linger ──▶ closing ──▶ idle
//		                            │    ▲                             Drop, then
//		                            └────┘ Begin, Release: in memory   our entry goes
//
//	  - idle → active: under PBS's config lock and the operations file's lock the
//	    mode is read, what it allows is published, and the waiting operations are
//	    counted; then both locks are given back. Check and count are one step: who
//	    sets a mode holds the same lock while it sums what is published.
//	  - active: the file counts at least one operation of that kind, so Begin
//	    takes no lock. It counts first, then looks whether datastore.cfg is
//	    another one, and steps back if the mode forbids it. The first write among
//	    reads is published like the first operation, for read-only maintenance
//	    asks for writes alone.
//	  - closing: 100 ms after the last Release, or at once under a mode that
//	    forbids reading, [Options].Drop closes everything below the datastore, and
//	    then our entry is removed. Operations that begin meanwhile wait, each as
//	    long as its context allows. So the file counts us for as long as anything
//	    is open, and an umount that waits for a count of zero cannot meet EBUSY.
//
// In between the published counts may be up to a second old, for display, but
// never zero for a kind that is active. The counts in memory are exact. A
// process that dies takes its entry with it: entries count only while their
// process, told by pid and start time, runs.
//
// What counts is what the file says, not what was once written: while operations
// are active, each Begin looks whether the file still has our entry, and so does the
// keeper twice a second. One that was lost is published again, before anything else
// begins. A file that cannot be read is left alone, for it may hide the counts of
// others; nothing begins then.
//
// Other processes' entries are kept byte for byte. PBS's own daemons are listed
// before us, at zero, because a PBS before 4.0.21 would otherwise not list
// itself at all; see reference "operations-and-maintenance", section 1.
//
// # Namespaces
//
// Pids mean something in one pid namespace. We are called what /proc calls us, with
// the start time of the machine's clock. A run directory has the pids of the namespace
// that claims it (a lock on the file pid-namespace), or of the server whose it is.
// A process of another namespace judges nobody there, and counts in a directory of
// its own below guests, which everybody adds up for as long as the lock in it is
// held; beside a server, which would not see that, it is refused.
//
// # Other users
//
// Of an ordinary user's files root believes what they say of that user's own live
// processes. They are opened beneath the user's directory, if they are plain files
// of that user's, and what is wrong with them is told with the [Tally]. A user who
// does not give root's config lock back loses it after two seconds: there is
// another lock file then, and who registers under the old one does it again. Where
// a user's run directory was taken away with the last session, the user's mounts
// count in a spare one below /tmp, where root looks as well.
//
// # Modes
//
// [ReadMode], [SetMode] and [ClearMode] work on the property maintenance-mode in
// datastore.cfg. What cannot be read counts as offline. SetMode sums the
// conflicting operations and writes the mode under one lock, or refuses with a
// [*ConflictError] and changes nothing; with Drain it sets the mode first, and
// [WaitIdle] waits. An edit replaces the file in one step and changes no byte
// but those of the one line. PBS is told through its generation counter and its
// control socket.
//
// # Names
//
// One datastore may have several entries in datastore.cfg, and be reached by many
// paths. It is told by what it is, see package identity: operations are published
// under the names of all its entries, or where it has none, under one made of its
// identity, and the modes of all of them bind. A datastore that was listed and is
// not any more is [cfg.Unlisted], which counts as offline. An entry whose place does
// not answer in time counts by its name alone.
//
// # Places
//
// A [hosts.Host] says where all this lives: with PBS, or for root or an ordinary user
// of a host without one. An ordinary user is bound by the modes in root's
// datastore.cfg too, and holds that file's lock shared while registering.
//
// # Locks
//
// In the order in which they are taken:
//
//  1. the config lock, PBS's .datastore.lck (for a user first the own one, then
//     root's, shared);
//  2. a datastore's operations lock;
//  3. Operations.mu, or one of the small mutexes in [modes.Source] and shareTable,
//     of which none is held while another one is taken.
//
// The first two are held across the reading of datastore.cfg, the writing of small
// files and nothing else, no look at the place of a datastore above all,
// the third across nothing at all. A file lock is given up on after 10 s, with an
// error that names the lock and who holds it. Nobody waits for the claim of a run
// directory: who cannot have it is a guest. Callbacks are called with no lock held.
// Each Operations has at most two goroutines: the keeper, which publishes and exists
// only while something is open or waits, and the watcher, which looks at the mode for
// mounts that are idle and exists only if somebody wants to be told. Close waits for
// both.
package maint
