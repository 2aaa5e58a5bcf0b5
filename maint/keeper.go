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
	// verifyEvery is how often the keeper looks whether the file still counts
	// us: a count that somebody took out comes back within a second.
	verifyEvery = 500 * time.Millisecond
	// retryEvery is the pause after a publication failed that others do not
	// wait for.
	retryEvery = time.Second
	// tidyTimeout bounds the wait for the operations lock of a publication
	// that may come later as well.
	tidyTimeout = 2 * time.Second
)

// step is what the keeper does next.
type step uint8

const (
	stepEnd      step = iota // nothing is open and nobody waits
	stepSleep                // until there is news or wakeAt
	stepRegister             // operations wait
	stepDrop                 // the linger is over
	stepTidy                 // nothing is open, but the file still counts us
	stepDisplay              // the file's counts are out of date
	stepVerify               // the file may have been changed by others
)

// startKeeper makes sure that a keeper runs. Called with mu held.
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

// next decides, and makes the change of state that has to come before the step.
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
		o.keeping = false // tried, failed, and nobody is left to try for
		return stepEnd, 0
	}
	due := o.due()
	if o.closed || !due.After(now) {
		return o.begin(now), 0
	}
	o.wakeAt = due
	return stepSleep, due.Sub(now)
}

// due is when something has to be done if nobody comes before. Called with mu
// held, in phase active or with a residue.
func (o *Operations) due() time.Time {
	if o.phase == idle {
		return o.retryAt
	}
	if o.counts.Total() == 0 {
		if !o.mode.Allows(cfg.Read) {
			return time.Time{}
		}
		return o.idleSince[0].Add(o.opts.Linger)
	}
	return earlier(o.verifyAt, o.displayDue())
}

// displayDue is when the file's counts have to be changed. Called with mu held.
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

// begin is the step that is due. Called with mu held.
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
			// The file will no longer count one: who begins one from here
			// on waits for a registration.
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

// register serves those who wait: under PBS's config lock the mode is read, and
// what it allows is published and counted before the lock is given back.
func (o *Operations) register() {
	err := o.ledger.register(o.stop, o.plan, o.grant)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.answer(err)
	}
	o.published = o.ledger.said()
	if o.phase == idle && o.published.Total() > 0 {
		o.residue = true // published, but in the end not granted
	}
}

// plan says what the file has to say for those who wait and may. news is
// false when there is nobody to publish for.
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

// grant counts those whose operation the file now covers and refuses those the
// mode forbids. It is called with the locks held under which mode was read and
// published written; nil published means that nothing was.
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

// nowActive notes what the file says. Called with mu held.
func (o *Operations) nowActive(published opsfile.Counts) {
	now := time.Now()
	if o.phase != active {
		// Everybody may have left meanwhile; the linger then begins here.
		o.idleSince = [3]time.Time{now, now, now}
	}
	o.phase, o.residue, o.lost, o.retryAt = active, false, false, time.Time{}
	o.covered[cfg.Read] = published.Read > 0
	o.covered[cfg.Write] = published.Write > 0
	o.displayAt = now.Add(displayEvery)
	o.verifyAt = now.Add(verifyEvery)
}

// verify looks whether the file still says of us what was published, and
// publishes that again where it does not: files are removed by who cleans up,
// and rewritten by who does not know of us.
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

// tidy takes our entry out of the file: nothing is open below the datastore.
// Where that fails the count stays too high, never too low, and it is tried
// again until it works or somebody registers.
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

// tidyFailed notes that the file still counts us, and says whether that is new.
func (o *Operations) tidyFailed(final bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	news := !o.residue
	o.phase, o.residue = idle, true
	if final || !o.closed { // else Close came meanwhile and wants a full try
		o.retryAt = time.Now().Add(retryEvery)
	}
	return news
}

// display brings the file up to date while operations are active. What it
// writes was fixed when it was decided which operations the file covers.
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

// foundLost has the keeper look at once, and whoever begins wait for it.
func (o *Operations) foundLost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase == active {
		o.lost, o.verifyAt = true, time.Time{}
		o.notify()
	}
}
