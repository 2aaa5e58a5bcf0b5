package maint

import (
	"context"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

const (
	// displayEvery is how often the file is brought up to date for display
	// while operations are active.
	displayEvery = time.Second
	// verifyEvery is how often the keeper looks whether the file still counts us. A
	// count that another program has removed comes back within a second.
	verifyEvery = 500 * time.Millisecond
	// retryEvery is the pause after a failed publication that no operation waits for.
	retryEvery = time.Second
	// tidyTimeout bounds the wait for the operations lock when the publication may also
	// be made later.
	tidyTimeout = 2 * time.Second
)

// step is what the keeper does next.
type step uint8

const (
	stepEnd      step = iota // nothing is open and no operation waits
	stepSleep                // until there is news or wakeAt
	stepRegister             // operations wait
	stepDrop                 // the linger is over
	stepTidy                 // nothing is open, but the file still counts us
	stepDisplay              // the file's counts are out of date
	stepVerify               // the file may have been changed by others
)

// startKeeper makes sure that a keeper runs. The caller holds mu.
//
// The keeper is the only goroutine that publishes, so publications never
// overlap. It lives from the first Begin until nothing is open any more.
func (o *Operations) startKeeper() {
	if o.keeping {
		return
	}
	o.keeping = true
	o.running.Go(o.keep)
}

func (o *Operations) keep() {
	for {
		what, pause := o.next(time.Now())
		switch what {
		case stepEnd:
			return
		case stepSleep:
			o.sleep(pause)
		case stepRegister:
			o.register()
		case stepDrop:
			o.opts.Drop()
			o.tidy()
		case stepTidy:
			o.tidy()
		case stepDisplay:
			o.display()
		case stepVerify:
			o.verify()
		}
	}
}

// next decides on the next step. It makes the change of state that has to come before
// the step.
func (o *Operations) next(now time.Time) (step, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wakeAt = time.Time{}
	switch {
	case len(o.waiting) > 0:
		return stepRegister, 0
	case o.phase == idle && !o.residue:
		o.keeping = false
		return stepEnd, 0
	case o.phase == idle && o.closed && !o.retryAt.IsZero():
		o.keeping = false // the try failed, and no operation is left to try for
		return stepEnd, 0
	}
	due := o.due()
	if o.closed || !due.After(now) {
		return o.begin(now), 0
	}
	o.wakeAt = due
	return stepSleep, due.Sub(now)
}

// due is the time of the next step if no news comes before. The caller holds mu, in
// phase active or with a residue.
func (o *Operations) due() time.Time {
	if o.phase == idle {
		return o.retryAt
	}
	if o.counts.Total() == 0 {
		// What lingers must be counted: when the mode forbids it, or when the file no
		// longer says so, it ends at once.
		if !o.mode.Allows(cfg.Read) || o.lost {
			return time.Time{}
		}
		return o.idleSince[0].Add(o.opts.Linger)
	}
	return earlier(o.verifyAt, o.displayDue())
}

// displayDue is when the file's counts have to be changed. The caller holds mu.
func (o *Operations) displayDue() time.Time {
	at := o.displayAt
	for _, op := range []cfg.Operation{cfg.Read, cfg.Write} {
		if o.covered[op] && o.counts.Of(op) == 0 {
			at = earlier(at, o.idleSince[op].Add(o.opts.Linger))
		}
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// begin returns the step that is due. The caller holds mu.
func (o *Operations) begin(now time.Time) step {
	switch {
	case o.phase == idle:
		return stepTidy
	case o.counts.Total() == 0:
		o.phase = closing
		o.covered = [3]bool{}
		return stepDrop
	case now.Before(o.displayDue()):
		o.verifyAt = now.Add(verifyEvery)
		return stepVerify
	default:
		o.displayAt = now.Add(displayEvery)
		o.want = o.counts
		for _, op := range []cfg.Operation{cfg.Read, cfg.Write} {
			// The file will no longer count one: an operation that begins from here on
			// waits for a registration.
			if o.counts.Of(op) == 0 {
				o.covered[op] = false
			}
		}
		return stepDisplay
	}
}

func (o *Operations) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.wake:
	case <-timer.C:
	}
}

// register serves the waiting operations. Under PBS's config lock it reads the mode,
// then publishes and counts what the mode allows before it releases the lock.
func (o *Operations) register() {
	err := o.ledger.register(o.stop, o.plan, o.grant)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.answer(err)
	}
	o.published = o.ledger.said()
	if o.phase == idle && o.published.Total() > 0 {
		o.residue = true // was published, but not granted in the end
	}
}

// plan says what the file has to say for the waiting operations that the mode allows.
// news is false when there is none to publish.
func (o *Operations) plan(mode cfg.Mode) (want opsfile.Counts, news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	want = o.counts
	for _, w := range o.waiting {
		if mode.Allows(w.op) {
			want = want.Plus(w.op, 1)
			news = true
		}
	}
	for _, op := range []cfg.Operation{cfg.Read, cfg.Write} {
		if o.covered[op] && want.Of(op) == 0 { // lingers
			want = want.Plus(op, 1)
		}
	}
	return want, news
}

// grant counts the waiting operations that the file now covers and refuses those that
// the mode forbids. The caller still holds the locks under which it read mode and wrote
// published. A nil published means that nothing was written.
func (o *Operations) grant(mode cfg.Mode, published *opsfile.Counts) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mode = mode
	if published != nil {
		o.nowActive(*published)
	}
	var still []*waiter
	for _, w := range o.waiting {
		switch {
		case !mode.Allows(w.op):
			w.done <- mode.Refusal(o.opts.Store)
		case o.phase == active && o.covered[w.op]:
			o.counts = o.counts.Plus(w.op, 1)
			w.done <- nil
		default:
			still = append(still, w) // came after the plan was made
		}
	}
	o.waiting = still
}

// nowActive notes what the file says. The caller holds mu.
func (o *Operations) nowActive(published opsfile.Counts) {
	now := time.Now()
	if o.phase != active {
		// Perhaps all operations have ended meanwhile; the linger then begins here.
		o.idleSince = [3]time.Time{now, now, now}
	}
	o.phase, o.residue, o.lost, o.retryAt = active, false, false, time.Time{}
	o.covered[cfg.Read] = published.Read > 0
	o.covered[cfg.Write] = published.Write > 0
	o.displayAt = now.Add(displayEvery)
	o.verifyAt = now.Add(verifyEvery)
}

// verify looks whether the file still says of us what we published, and otherwise
// publishes it again: programs that clean up remove files, and programs that do not
// know of us rewrite them.
func (o *Operations) verify() {
	if o.ledger.intact() {
		return
	}
	o.mu.Lock()
	want, news := o.published, !o.lost
	o.lost = true
	o.mu.Unlock()
	ctx, cancel := context.WithTimeout(o.stop, tidyTimeout)
	defer cancel()
	err := o.ledger.update(ctx, want)
	o.mu.Lock()
	o.lost = err != nil
	o.mu.Unlock()
	switch {
	case err == nil:
		o.opts.Log.Warn("our entry was lost from the operations file and is there again", "datastore", o.opts.Store)
	case news && o.stop.Err() == nil:
		o.opts.Log.Warn("our entry was lost from the operations file", "datastore", o.opts.Store, "error", err)
	}
}

// tidy removes our entry from the file when nothing is open below the datastore. If
// this fails, the count stays too high, never too low. tidy is then tried until it
// works or an operation registers.
func (o *Operations) tidy() {
	o.mu.Lock()
	final, timeout := o.closed, tidyTimeout
	o.mu.Unlock()
	if final {
		timeout = statefile.LockTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := o.ledger.update(ctx, opsfile.Counts{}); err != nil {
		if o.tidyFailed(final) {
			o.opts.Log.Warn("entry stays in the operations file for now", "datastore", o.opts.Store, "error", err)
		}
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.phase, o.residue, o.retryAt, o.published = idle, false, time.Time{}, opsfile.Counts{}
}

// tidyFailed notes that the file still counts us, and reports whether that is new.
func (o *Operations) tidyFailed(final bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	news := !o.residue
	o.phase, o.residue = idle, true
	if final || !o.closed { // otherwise Close came meanwhile and wants a full try
		o.retryAt = time.Now().Add(retryEvery)
	}
	return news
}

// display brings the file up to date while operations are active. The counts that it
// writes were fixed when the keeper decided which operations the file covers.
func (o *Operations) display() {
	o.mu.Lock()
	want, old := o.want, o.published
	o.mu.Unlock()
	if want == old && !o.ledger.stale() {
		return
	}
	ctx, cancel := context.WithTimeout(o.stop, tidyTimeout)
	defer cancel()
	err := o.ledger.update(ctx, want)

	o.mu.Lock()
	news := err != nil && o.retryAt.IsZero()
	if err == nil {
		o.published, o.retryAt = want, time.Time{}
	} else {
		o.retryAt = o.displayAt
	}
	o.mu.Unlock()
	if news && o.stop.Err() == nil {
		o.opts.Log.Warn("operations file is out of date for now", "datastore", o.opts.Store, "error", err)
	}
}

// foundLost makes the keeper look at once. Operations that begin wait for it.
func (o *Operations) foundLost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase == active {
		o.lost, o.verifyAt = true, time.Time{}
		o.notify()
	}
}
