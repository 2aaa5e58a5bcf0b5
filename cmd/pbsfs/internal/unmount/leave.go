package unmount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
)

// retryAfter is the pause before another attempt to unmount a busy mount.
const retryAfter = 50 * time.Millisecond

// endTimeout is how long a serving process may take to end after its mount has ended.
const endTimeout = 5 * time.Second

// leaving is one unmount of trees. It examines all trees before it touches the first,
// so that the unmount is refused as a whole, or succeeds.
type leaving struct {
	trees []tree // the one that was made last comes first
	o     Options
	until time.Time // the end of the wait for processes in the way
}

// newLeaving finds out which processes serve the mounts.
func newLeaving(ctx context.Context, mounted []mounts.Mount, known []*served.Record, o Options) *leaving {
	var trees []tree
	for _, t := range served.Trees(ctx, mounted, known) {
		trees = append(trees, tree{t})
	}
	return &leaving{trees: trees, o: o, until: time.Now().Add(o.Wait)}
}

func (l *leaving) unmount(ctx context.Context) error {
	wait, cancel := context.WithDeadline(ctx, l.until)
	defer cancel()
	if err := l.ready(wait); err != nil {
		return err
	}
	for _, t := range l.trees {
		if err := l.take(ctx, wait, t); err != nil {
			return err
		}
	}
	return l.ended(ctx)
}

// ready returns nil when all trees can be unmounted, or an error that says why they
// cannot.
func (l *leaving) ready(wait context.Context) error {
	if l.o.Force {
		return l.nothingLost()
	}
	if err := l.answering(); err != nil {
		return err
	}
	for l.kernelRefuses() && pause(wait) { // this costs less than a search for the processes
	}
	for {
		err := l.busy(wait)
		if !errors.Is(err, mountpoint.ErrActive) || !pause(wait) {
			return err
		}
	}
}

// answering refuses the unmount if a process does not answer, unless force is set.
func (l *leaving) answering() error {
	for _, t := range l.trees {
		if t.Hangs != nil && !l.o.Force {
			return fmt.Errorf("nothing was unmounted: %w; --force takes the mount away all the same", t.Hangs)
		}
	}
	return nil
}

// kernelRefuses reports whether one of the trees is in use according to the kernel.
func (l *leaving) kernelRefuses() bool {
	return slices.ContainsFunc(l.trees, func(t tree) bool { return !t.Dead && errors.Is(t.unused(), unix.EBUSY) })
}

// nothingLost refuses a forced unmount that would also take away other mounts, which
// could be unmounted by themselves.
func (l *leaving) nothingLost() error {
	for _, t := range l.trees {
		if inside := t.inside(); len(inside) > 0 && !t.Dead && t.Hangs == nil {
			return &mountpoint.BusyError{Mounts: []mounts.Mount{t.Mount}, Holders: nestedIn(inside)}
		}
	}
	return nil
}

// nestedIn lists the mounts inside a tree.
func nestedIn(mounted []mounts.Mount) []mounts.Holder {
	var out []mounts.Holder
	for _, m := range mounted {
		out = append(out, mounts.Holder{Name: m.FSType, Path: m.Point, How: mounts.HowNested})
	}
	return out
}

// busy returns an error that says which trees are in use, and by which processes.
func (l *leaving) busy(ctx context.Context) error {
	var trees []mounts.Mount
	var all []mounts.Holder
	for _, t := range l.trees {
		holders, err := l.holders(ctx, t)
		if err != nil {
			return fmt.Errorf("%s: who uses it cannot be told: %w", text.Printable(t.Point), err)
		}
		if len(holders) > 0 {
			trees = append(trees, t.Mount)
			all = append(all, holders...)
		}
	}
	if len(trees) == 0 {
		return nil
	}
	return &mountpoint.BusyError{Mounts: trees, Holders: all}
}

// holders returns what keeps one of the trees in use, except holders that end with the
// other trees.
func (l *leaving) holders(ctx context.Context, t tree) ([]mounts.Holder, error) {
	if t.Dead { // files that are still open there only give errors, so they do not count
		return nestedIn(t.inside()), nil
	}
	holders, err := t.inTheWay(ctx)
	return slices.DeleteFunc(holders, func(h mounts.Holder) bool {
		return h.How == mounts.HowNested && slices.ContainsFunc(l.trees, func(o tree) bool { return o.Point == h.Path })
	}), err
}

// take takes one of the trees away. A process may have begun to use it meanwhile.
func (l *leaving) take(ctx, wait context.Context, t tree) error {
	switch {
	case t.Dead:
		inside := t.inside()
		err := t.take(ctx, true)
		if err == nil {
			l.lost(inside)
		}
		return err
	case l.o.Force && t.Hangs != nil:
		return l.abort(ctx, t)
	}
	for {
		err := t.take(ctx, false)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if pause(wait) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if l.o.Force {
			return l.detach(ctx, t)
		}
		return l.refused(ctx, t, err)
	}
}

// refused names the processes that have begun to use the tree meanwhile.
func (l *leaving) refused(ctx context.Context, t tree, cause error) error {
	holders, err := mounts.HoldersOf(context.WithoutCancel(ctx), t.Mount)
	if err != nil || len(holders) == 0 {
		return fmt.Errorf("%w: %w", mountpoint.ErrActive, cause)
	}
	return &mountpoint.BusyError{Mounts: []mounts.Mount{t.Mount}, Holders: holders}
}

// detach takes a mount away while it is in use, and reports what that leaves behind.
func (l *leaving) detach(ctx context.Context, t tree) error {
	holders, err := mounts.HoldersOf(ctx, t.Mount)
	if err != nil {
		return err
	}
	copies, err := t.copies(ctx)
	if err != nil {
		return err
	}
	if err := t.take(ctx, true); err != nil {
		return err
	}
	fmt.Fprintf(l.o.Stderr, "pbsfs: %s is unmounted; still in use, and counted as operations until closed, by:\n", text.Printable(t.Point))
	for _, h := range append(holders, copies...) {
		fmt.Fprintf(l.o.Stderr, "  %s\n", h)
	}
	t.Server = nil // the process goes on
	return nil
}

// abort takes away a mount whose process does not answer. Programs that wait for the
// mount get an error.
func (l *leaving) abort(ctx context.Context, t tree) error {
	err := mounts.AbortConnection(t.Mount)
	inside := t.inside()
	if terr := t.take(ctx, true); terr != nil {
		return errors.Join(terr, err)
	}
	fmt.Fprintf(l.o.Stderr, "pbsfs: %s is unmounted; %v\n", text.Printable(t.Point), t.Hangs)
	if err != nil {
		fmt.Fprintf(l.o.Stderr, "pbsfs: warning: who waits for it goes on waiting: %v\n", err)
	}
	t.Server.Remove() // the record is of no use any more, and another mount may get its numbers
	l.lost(inside)
	t.Server = nil
	return nil
}

// lost reports the mounts that went away with a tree that could no longer be looked
// into.
func (l *leaving) lost(inside []mounts.Mount) {
	for _, h := range nestedIn(inside) {
		fmt.Fprintf(l.o.Stderr, "pbsfs: warning: what was mounted inside of the tree went with it: %s\n", h)
	}
}

// ended waits until the processes that served the trees have ended. A process that also
// serves its tree elsewhere goes on.
func (l *leaving) ended(ctx context.Context) error {
	for _, t := range l.trees {
		if t.Server == nil {
			continue
		}
		if where, ok := t.servedOn(); ok {
			fmt.Fprintf(l.o.Stderr, "pbsfs: %s is unmounted; process %d goes on serving the tree, on %s\n", text.Printable(t.Point), t.Server.PID, where)
			continue
		}
		if err := t.waitEnd(ctx); err != nil {
			return err
		}
		if t.Server.Alive() {
			fmt.Fprintf(l.o.Stderr, "pbsfs: %s is unmounted; something that cannot be seen from here still uses the tree, an overlay perhaps; process %d serves it until then\n", text.Printable(t.Point), t.Server.PID)
		}
	}
	return nil
}

// servedOn says where else the tree is mounted.
func (t tree) servedOn() (string, bool) {
	if t.Elsewhere {
		return "its mount in another namespace", true
	}
	ours, err := mountpoint.Ours()
	if err != nil {
		return "", false
	}
	for _, m := range ours.OfDevice(t.Mount) {
		return text.Printable(m.Point), true
	}
	return "", false
}

// waitEnd waits until the process that served a mount has ended. If it still answers
// after that time, it serves a user that cannot be found.
func (t tree) waitEnd(ctx context.Context) error {
	r := t.Server
	wait, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for r.Alive() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wait.Err() != nil {
			if _, err := r.Ask(ctx, served.Request{Ping: true}); err == nil {
				return nil
			}
			return fmt.Errorf("%s is unmounted, but process %d, which served it, has not ended and does not answer", text.Printable(t.Point), r.PID)
		}
		r.Await()
	}
	r.Remove()
	return nil
}

// pause waits a little. It returns false when no time is left.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(retryAfter):
		return true
	case <-ctx.Done():
		return false
	}
}
