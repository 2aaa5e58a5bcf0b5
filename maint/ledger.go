package maint

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/pbs"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// ledger is where an Operations publishes its counts. It is used by one
// goroutine at a time.
type ledger interface {
	// register reads the mode, asks plan what to publish under it, publishes that and
	// calls grant. It does so under the locks that keep the mode and the file from
	// changing. grant gets nil when there was nothing to publish.
	register(ctx context.Context, plan func(cfg.Mode) (opsfile.Counts, bool), grant func(cfg.Mode, *opsfile.Counts)) error
	// update publishes new counts for our existing entry; zero removes the entry.
	update(ctx context.Context, counts opsfile.Counts) error
	// stale says that the file needs an update though our counts are the same.
	stale() bool
	// said is what the file says of us since the last publication.
	said() opsfile.Counts
	// holds reports whether the file counts an operation of ours of that kind at this
	// moment. Unlike the other methods, any goroutine may call it.
	holds(op cfg.Operation) bool
	// intact reports whether the file still says of us what we published.
	intact() bool
	// close releases what the ledger holds for as long as it may publish.
	close()
}

func newLedger(opts Options, modes *modes.Source) ledger {
	if opts.Untracked {
		return unpublished{opts.Store, modes}
	}
	return &fileLedger{host: opts.Host, store: opts.Store, modes: modes}
}

// unpublished is the ledger of an Operations that publishes nothing.
type unpublished struct {
	store string
	modes *modes.Source
}

func (u unpublished) register(ctx context.Context, plan func(cfg.Mode) (opsfile.Counts, bool), grant func(cfg.Mode, *opsfile.Counts)) error {
	b, file, err := u.modes.Current(ctx)
	if err != nil {
		return &RegisterError{Store: u.store, File: file, Err: err}
	}
	if want, news := plan(b.Mode); news {
		grant(b.Mode, &want)
	} else {
		grant(b.Mode, nil)
	}
	return nil
}

func (unpublished) update(context.Context, opsfile.Counts) error { return nil }
func (unpublished) stale() bool                                  { return false }
func (unpublished) said() opsfile.Counts                         { return opsfile.Counts{} }
func (unpublished) holds(cfg.Operation) bool                     { return true }
func (unpublished) intact() bool                                 { return true }
func (unpublished) close()                                       {}

// fileLedger publishes in PBS's active-operations file.
type fileLedger struct {
	host    hosts.Host
	store   string
	modes   *modes.Source
	daemons []procfs.Process // PBS's, as of the last publication
	written opsfile.Counts   // our share, as of the last publication
	// names are those of the files that may have our share, each with what was last
	// seen in it. A list is never changed, only replaced.
	names atomic.Pointer[[]*nameSight]
	// at is where we publish; nil before the first time and after close.
	at atomic.Pointer[opsPlace]
}

// nameSight is a name that operations are published under.
type nameSight struct {
	name string
	seen opsfile.Sight
}

// published returns the names of the files that may have our share.
func (l *fileLedger) published() []*nameSight {
	if list := l.names.Load(); list != nil {
		return *list
	}
	return nil
}

// targets returns the published names and those in names.
func (l *fileLedger) targets(names []string) []*nameSight {
	list := slices.Clone(l.published())
	for _, name := range names {
		if !slices.ContainsFunc(list, func(n *nameSight) bool { return n.name == name }) {
			list = append(list, &nameSight{name: name})
		}
	}
	return list
}

// note notes whether the file of a name has our share.
func (l *fileLedger) note(name *nameSight, has bool) {
	list := slices.DeleteFunc(slices.Clone(l.published()), func(n *nameSight) bool { return n == name })
	if has {
		list = append(list, name)
	}
	l.names.Store(&list)
}

// missing reports whether operations are not published under one of the names.
func (l *fileLedger) missing(names []string) bool {
	list := l.published()
	return slices.ContainsFunc(names, func(name string) bool {
		return !slices.ContainsFunc(list, func(n *nameSight) bool { return n.name == name })
	})
}

// opsPlace is where a process publishes what it counts.
type opsPlace struct {
	host  hosts.Host // with the run directory that is used
	claim *runClaim
	dir   string // of the operations files
}

func (p *opsPlace) file(store string) string { return filepath.Join(p.dir, store) }

// place returns where we publish, which changes when our claim is lost.
func (l *fileLedger) place(ctx context.Context) (*opsPlace, error) {
	if at := l.at.Load(); at != nil {
		if at.claim.stands() {
			return at, nil
		}
		l.close()
	}
	at, err := newPlaceToCount(ctx, l.host)
	if err != nil {
		return nil, err
	}
	l.at.Store(at)
	return at, nil
}

// newPlaceToCount finds where to publish: in the run directory, or, if a user's was
// removed, in the spare one.
func newPlaceToCount(ctx context.Context, host hosts.Host) (*opsPlace, error) {
	if err := hosts.MakeRunDir(host); err != nil {
		spare, serr := host.Spare()
		if serr != nil {
			return nil, err
		}
		host = spare
	}
	claim, err := claimToCount(ctx, host)
	if err != nil {
		return nil, err
	}
	at := &opsPlace{host: host, claim: claim, dir: host.OperationsDir()}
	if claim.guest != "" {
		at.dir = claim.guest
	}
	return at, nil
}

func (l *fileLedger) close() {
	if at := l.at.Swap(nil); at != nil {
		for _, n := range l.published() {
			shares.set(at.file(n.name), l, opsfile.Counts{})
		}
		at.claim.release()
	}
}

// register holds, in this order, the config locks and the operations lock.
func (l *fileLedger) register(ctx context.Context, plan func(cfg.Mode) (opsfile.Counts, bool), grant func(cfg.Mode, *opsfile.Counts)) error {
	for tries := 1; ; tries++ {
		file, err := l.modes.Prepare(ctx)
		done := false
		if err == nil {
			done, file, err = l.tryRegister(ctx, tries >= enoughTries, plan, grant)
		}
		if errors.Is(err, modes.ErrUnseen) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return &RegisterError{Store: l.store, File: file, Err: err}
		}
		if done {
			return nil
		}
	}
}

// enoughTries bounds how often register looks at the datastores' places, which it does
// without the locks. Under the locks the files may name other places than before.
const enoughTries = 10

// tryRegister is one attempt; file names the file that an error is about. done is false
// if another lock file has appeared meanwhile, whose lock then has to be taken too.
func (l *fileLedger) tryRegister(ctx context.Context, anyhow bool, plan func(cfg.Mode) (opsfile.Counts, bool), grant func(cfg.Mode, *opsfile.Counts)) (done bool, file string, err error) {
	locks, file, err := hosts.LockConfigs(ctx, l.host)
	if err != nil {
		return false, file, err
	}
	defer locks.Unlock()
	b, file, err := l.modes.Fresh(anyhow)
	if err != nil {
		return false, file, err
	}
	want, news := plan(b.Mode)
	if !news {
		grant(b.Mode, nil)
		return true, "", nil
	}
	file = l.host.OperationsFile(l.store)
	if err := l.update(ctx, want); err != nil {
		return false, file, err
	}
	if locks.Incomplete() {
		// The entry is ahead of the guards for a moment, which is safe.
		return false, "", nil
	}
	grant(b.Mode, &want)
	return true, "", nil
}

// update publishes under every name of the datastore, one after the other.
func (l *fileLedger) update(ctx context.Context, counts opsfile.Counts) error {
	me, err := procfs.Self()
	if err != nil {
		return err
	}
	daemons, err := pbs.Daemons(l.host)
	if err != nil && counts.Total() > 0 {
		return err
	}
	at, err := l.place(ctx)
	if err != nil {
		return err
	}
	list := l.published()
	if counts.Total() > 0 || len(list) == 0 {
		list = l.targets(l.modes.Counted())
	}
	for i, n := range list {
		if err := l.updateFile(ctx, at.host, at.file(n.name), me, counts, daemons); err != nil {
			if i > 0 {
				l.written = l.written.Max(counts)
			}
			return err
		}
		l.note(n, counts.Total() > 0)
	}
	l.daemons, l.written = daemons, counts
	return nil
}

// updateFile publishes under one name.
func (l *fileLedger) updateFile(ctx context.Context, host hosts.Host, path string, me procfs.Process, counts opsfile.Counts, daemons []procfs.Process) error {
	lock, err := hosts.LockOperations(ctx, host, path)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	entries, err := opsfile.ReadSettled(path)
	if err != nil {
		return err
	}
	undo := shares.set(path, l, counts)
	data := opsfile.Encode(opsfile.Update(entries, me, shares.sum(path), daemons))
	if err := statefile.ReplaceFile(path, data, l.host.Files(), statefile.LockMode); err != nil {
		undo()
		return fmt.Errorf("write operations file: %w", err)
	}
	return nil
}

func (l *fileLedger) said() opsfile.Counts { return l.written }

func (l *fileLedger) holds(op cfg.Operation) bool {
	at := l.at.Load()
	if at == nil || at.claim.guest != "" && !at.claim.stands() {
		return false
	}
	list := l.published()
	for _, n := range list {
		if c, ok := n.seen.Look(at.file(n.name)); !ok || c.Of(op) == 0 {
			return false
		}
	}
	return len(list) > 0
}

func (l *fileLedger) intact() bool {
	at := l.at.Load()
	if at == nil || !at.claim.stands() {
		return false
	}
	list := l.published()
	for _, n := range list {
		path := at.file(n.name)
		if c, ok := n.seen.Look(path); !ok || c != shares.sum(path) {
			return false
		}
	}
	return len(list) > 0
}

func (l *fileLedger) stale() bool {
	if l.missing(l.modes.Counted()) {
		return true // it has got another name meanwhile
	}
	daemons, err := pbs.Daemons(l.host)
	return err == nil && !slices.Equal(daemons, l.daemons)
}

// CheckTracking reports whether operations on a datastore can be registered from here,
// without registering one. If not, only an untracked mount is possible.
func CheckTracking(ctx context.Context, host hosts.Host, store string) error {
	if err := hosts.CheckStore(store); err != nil {
		return err
	}
	if len(host.Configs()) == 0 {
		return hosts.ErrZero
	}
	l := &fileLedger{host: host, store: store, modes: modes.NewSource(host, store, "", false)}
	defer l.close()
	locks, file, err := hosts.LockConfigs(ctx, host)
	if err == nil {
		defer locks.Unlock()
		file, err = host.OperationsFile(store), l.update(ctx, opsfile.Counts{})
	}
	if err == nil {
		_, err = pbs.Daemons(host)
	}
	if err != nil {
		return &RegisterError{Store: store, File: file, Err: err}
	}
	return nil
}
