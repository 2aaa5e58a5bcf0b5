package maint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/opsfile"
)

// maxLinger bounds how long the count and the descriptors outlive the last operation.
const maxLinger = 100 * time.Millisecond

// Options are what an [Operations] needs to know.
type Options struct {
	// Store is the datastore's name in datastore.cfg and the name of its
	// operations file.
	Store string
	// Path is the datastore's directory. Operations are counted under every name that
	// datastore.cfg has for the datastore there, and the modes of all these names bind.
	// "" is the place of the entry named Store.
	Path string
	Host hosts.Host
	// Untracked publishes nothing and lets nothing linger. It is for hosts on which the
	// operations file is out of reach. The maintenance mode is obeyed all the same, as
	// far as it can be read.
	Untracked bool
	// Drop must close every descriptor below the datastore. It is called
	// when no operation is active and none can begin until it returns, and
	// before others are told that the count is zero. It must not call Begin.
	Drop func()
	// DropCaches is called when a mode is set that forbids reading, while operations
	// may still be active. It drops cached data that no operation uses.
	DropCaches func()
	// Changed is called with the new mode within a second of a change.
	Changed func(cfg.Mode)
	// Linger is how long the count and the descriptors stay after the last operation,
	// 100 ms at most. Zero means 100 ms, less than zero means not at all.
	Linger time.Duration
	// Log is slog.Default() when nil.
	Log *slog.Logger
}

// Operations counts the operations of this process on one datastore. The package
// documentation describes how.
type Operations struct {
	opts   Options
	modes  *modes.Source
	ledger ledger

	// mu guards what follows. It is the innermost lock: nothing is called, opened or
	// waited for while it is held. It may be taken while the config lock and the
	// operations lock are held, but never the other way round.
	mu      sync.Mutex
	counts  opsfile.Counts // guards that are held
	covered [3]bool        // by Operation: the file is known to count one; Begin needs no lock
	phase   phase          //
	waiting []*waiter      // Begins that wait for a publication, oldest first
	mode    cfg.Mode       // last seen
	closed  bool
	residue bool // the file may still count us although nothing is open
	lost    bool // the file does not count us although something is open

	idleSince [3]time.Time   // by Operation: when its count became zero; [0] both
	published opsfile.Counts // what the file says
	want      opsfile.Counts // what the display step is to write
	retryAt   time.Time      // when a failed publication is tried again
	displayAt time.Time      // when the file may next be brought up to date
	verifyAt  time.Time      // when the keeper next looks whether the file still counts us
	wakeAt    time.Time      // when the keeper wakes by itself
	keeping   bool           // a keeper runs

	unsure []string // entries whose places do not answer, as last reported; used by the watcher only

	wake    chan struct{} // capacity 1: there is news for the keeper
	stop    context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // keeper and watcher
}

// phase says what may be open below the datastore.
type phase uint8

const (
	idle    phase = iota // nothing; the file does not count us
	active               // descriptors; the file counts us
	closing              // Drop runs, or our entry is being removed from the file
)

// waiter is a Begin that waits for its operation to be published.
type waiter struct {
	op   cfg.Operation
	done chan error // capacity 1; nil once the operation is counted
}

// NewOperations creates the counts. It does not look at the datastore, and fails only
// for options that make no sense.
func NewOperations(opts Options) (*Operations, error) {
	if err := hosts.CheckStore(opts.Store); err != nil {
		return nil, err
	}
	if len(opts.Host.Configs()) == 0 {
		return nil, hosts.ErrZero
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Drop == nil {
		opts.Drop = func() {}
	}
	if opts.Linger == 0 || opts.Linger > maxLinger {
		opts.Linger = maxLinger
	}
	if opts.Linger < 0 || opts.Untracked {
		opts.Linger = 0
	}
	o := &Operations{
		opts:  opts,
		modes: modes.NewSource(opts.Host, opts.Store, opts.Path, opts.Untracked),
		wake:  make(chan struct{}, 1),
	}
	o.ledger = newLedger(opts, o.modes)
	o.stop, o.cancel = context.WithCancel(context.Background())
	o.modes.WatchMounts()
	o.mode = o.look()
	o.startWatch()
	return o, nil
}

// Begin counts one operation, or says why the operation must not be done: a
// [*ModeError], a [*RegisterError], ErrClosed, or the context's error. When it returns
// a Guard, other processes know of the operation and no maintenance mode forbids it.
func (o *Operations) Begin(ctx context.Context, op cfg.Operation) (*Guard, error) {
	if op != cfg.Read && op != cfg.Write {
		return nil, fmt.Errorf("datastore %s: %v is not an operation", o.opts.Store, op)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := o.unlessRefused(op); err != nil {
		return nil, err
	}
	for {
		err := o.count(ctx, op)
		if err == nil {
			return o.guard(op), nil
		}
		if !errors.Is(err, errLost) {
			return nil, err
		}
	}
}

// errLost says that the file did not count us where it should have. The caller that
// finds this out publishes the entry anew before anything is opened.
var errLost = errors.New("our entry is missing in the operations file")

// count counts one operation: in memory if the file counts others of its kind, else
// published together with the waiting ones.
func (o *Operations) count(ctx context.Context, op cfg.Operation) error {
	w, err := o.enter(op)
	switch {
	case err != nil:
		return err
	case w != nil:
		return o.await(ctx, w)
	}
	return o.recheck(op)
}

// Join is [Operations.Begin] for work that no user waits for. It counts one more
// operation if others of the same kind are counted now or were a moment ago, and
// publishes nothing. Otherwise it returns ErrIdle.
func (o *Operations) Join(op cfg.Operation) (*Guard, error) {
	if !o.another(op) {
		return nil, fmt.Errorf("datastore %s: %w", o.opts.Store, ErrIdle)
	}
	err := o.recheck(op)
	if errors.Is(err, errLost) {
		err = fmt.Errorf("datastore %s: %w", o.opts.Store, ErrIdle)
	}
	if err != nil {
		return nil, err
	}
	return o.guard(op), nil
}

// another counts an operation if others of its kind are counted already.
func (o *Operations) another(op cfg.Operation) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.closed && o.mode.Allows(op) && o.countBeside(op)
}

// countBeside counts an operation if the file covers it, and reports whether it did.
// The caller holds mu.
func (o *Operations) countBeside(op cfg.Operation) bool {
	if o.phase != active || !o.covered[op] || o.lost {
		return false
	}
	o.counts = o.counts.Plus(op, 1)
	return true
}

// guard returns the Guard of an operation that was counted.
func (o *Operations) guard(op cfg.Operation) *Guard {
	g := &Guard{op: op}
	g.ops.Store(o)
	return g
}

// unlessRefused keeps an operation from being counted even for a moment if the mode
// last seen refuses it: many such operations would keep the count from reaching zero.
func (o *Operations) unlessRefused(op cfg.Operation) error {
	o.mu.Lock()
	refused, closed := !o.mode.Allows(op), o.closed
	o.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if !refused {
		return nil
	}
	return o.check(op)
}

// check compares op with the mode in datastore.cfg, which is read again only if the
// file has changed.
func (o *Operations) check(op cfg.Operation) error {
	b, file, err := o.modes.Current(o.stop)
	if err != nil {
		return &RegisterError{Store: o.opts.Store, File: file, Err: err}
	}
	o.sawMode(b.Mode)
	return b.Mode.Check(o.opts.Store, op)
}

// sawMode notes the mode. A mode that forbids reading ends the linger.
func (o *Operations) sawMode(mode cfg.Mode) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mode == mode {
		return
	}
	o.mode = mode
	if !mode.Allows(cfg.Read) && o.phase == active {
		o.notify()
	}
}

// enter counts an operation that the file covers already. Otherwise it returns a
// waiter, which the keeper serves.
func (o *Operations) enter(op cfg.Operation) (*waiter, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	if o.countBeside(op) {
		return nil, nil
	}
	w := &waiter{op: op, done: make(chan error, 1)}
	o.waiting = append(o.waiting, w)
	o.startKeeper()
	o.notify()
	return w, nil
}

// recheck is the second half of a Begin that took no lock. The operation is counted; if
// a mode that forbids it was set meanwhile, recheck takes the count back. Either we see
// the mode here, or the process that sets it sees our count, as long as the file has
// it.
func (o *Operations) recheck(op cfg.Operation) error {
	err := o.check(op)
	if err == nil && !o.ledger.holds(op) {
		o.foundLost()
		err = errLost
	}
	if err != nil {
		o.release(op)
	}
	return err
}

// await waits for the keeper's answer for as long as ctx allows.
func (o *Operations) await(ctx context.Context, w *waiter) error {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	if !o.abandon(w) {
		if err := <-w.done; err == nil { // was counted in the same moment
			o.release(w.op)
		}
	}
	return ctx.Err()
}

// abandon takes a waiter off the list and reports whether the waiter was still on it.
func (o *Operations) abandon(w *waiter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, other := range o.waiting {
		if other == w {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// release takes the count of one operation back.
func (o *Operations) release(op cfg.Operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts = o.counts.Plus(op, -1)
	if o.counts.Of(op) > 0 {
		return
	}
	now := time.Now()
	o.idleSince[op] = now
	if o.counts.Total() == 0 {
		o.idleSince[0] = now
	}
	if !o.mode.Allows(cfg.Read) || now.Add(o.opts.Linger).Before(o.wakeAt) {
		o.notify()
	}
}

// notify tells the keeper to look for work. The caller may hold mu or not.
func (o *Operations) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Counts returns the operations of this moment, without those that only linger.
func (o *Operations) Counts() opsfile.Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts
}

// Mode returns the mode last seen by an operation, or by the watcher if there is one
// (see [Options]).
func (o *Operations) Mode() cfg.Mode {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mode
}

// Identity returns the identity of the datastore as it was last seen.
func (o *Operations) Identity() identity.ID { return o.modes.Identity() }

// Names returns the names under which the datastore's operations and locks are kept, as
// last seen.
func (o *Operations) Names() []string { return o.modes.Counted() }

// Untracked reports whether our operations are hidden from other processes.
func (o *Operations) Untracked() bool { return o.opts.Untracked }

// Close ends the linger, calls Drop, takes our entry out of the operations
// file and waits for the goroutines. While operations are active it returns
// ErrActive and changes nothing.
func (o *Operations) Close() error {
	o.mu.Lock()
	if !o.closed && o.counts.Total() > 0 {
		o.mu.Unlock()
		return fmt.Errorf("datastore %s: %w", o.opts.Store, ErrActive)
	}
	o.closed = true
	o.retryAt = time.Time{} // the keeper tries once more
	o.answer(ErrClosed)
	o.notify()
	o.mu.Unlock()

	o.cancel()
	o.running.Wait()
	o.ledger.close()
	o.modes.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.residue {
		return fmt.Errorf("datastore %s: our entry is left in %s until this process ends", o.opts.Store, o.opts.Host.OperationsFile(o.opts.Store))
	}
	return nil
}

// answer gives all waiting operations the same answer. The caller holds mu.
func (o *Operations) answer(err error) {
	for _, w := range o.waiting {
		w.done <- err
	}
	o.waiting = nil
}
