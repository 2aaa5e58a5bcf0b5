package maint

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the model tests, 0 for a new one")
	steps = flag.Int("steps", 2500, "steps of the model tests")
)

func random(t *testing.T) *rand.Rand {
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-seed %d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// model is what an Operations should be like: guards and a mode.
type model struct {
	t      *testing.T
	p      place
	ops    *Operations
	rnd    *rand.Rand
	guards []*Guard
	counts opsfile.Counts
	mode   cfg.ModeType
	open   atomic.Int64 // descriptors: opened by operations, closed by Drop
}

func (m *model) begin() {
	op := cfg.Operation(1 + m.rnd.IntN(2))
	g, err := m.ops.Begin(m.t.Context(), op)
	want := cfg.Mode{Type: m.mode}.Check(testStore, op)
	if (err == nil) != (want == nil) || want != nil && !errors.Is(err, m.mode.Sentinel()) {
		m.t.Fatalf("Begin(%v) in mode %q: got %v", op, m.mode, err)
	}
	if err == nil {
		m.open.Add(1)
		m.guards = append(m.guards, g)
		m.counts = m.counts.Plus(op, 1)
	}
}

func (m *model) release() {
	if len(m.guards) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.guards))
	g := m.guards[i]
	m.guards = append(m.guards[:i], m.guards[i+1:]...)
	m.counts = m.counts.Plus(g.Operation(), -1)
	g.Release()
	g.Release()
	if g.Held() {
		m.t.Fatal("a released guard is held")
	}
}

func (m *model) releaseAll() {
	for len(m.guards) > 0 {
		m.release()
	}
}

// set is refused exactly while the model has what the mode forbids.
func (m *model) set() {
	mode := []cfg.ModeType{cfg.ReadOnly, cfg.Offline}[m.rnd.IntN(2)]
	conflict := m.counts.Write > 0 || mode == cfg.Offline && m.counts.Read > 0
	wait := 10 * time.Second // for what lingers
	if conflict {
		wait = 0
	}
	err := SetMode(m.t.Context(), m.p.host, testStore, mode, SetOptions{Wait: wait})
	switch {
	case !conflict:
		if err != nil {
			m.t.Fatalf("SetMode(%s) with %v active: %v", mode, m.counts, err)
		}
		if mode == cfg.Offline && m.open.Load() != 0 {
			m.t.Fatalf("offline with %d open descriptors", m.open.Load())
		}
		m.mode = mode
	case !errors.Is(err, ErrConflict):
		m.t.Fatalf("SetMode(%s) with %v active: %v", mode, m.counts, err)
	}
}

func (m *model) drain() {
	m.p.setMode(m.t, cfg.Offline, SetOptions{Drain: true})
	m.mode = cfg.Offline
}

func (m *model) clear() {
	m.p.clearMode(m.t)
	m.mode = cfg.None
}

// lose has somebody take our entry out of the file. What begins next, or else the
// keeper, puts it back. What only lingers ends.
func (m *model) lose() {
	switch file := filepath.Join(m.p.dir, opsName); m.rnd.IntN(3) {
	case 0:
		_ = os.Remove(file)
	case 1:
		_ = os.RemoveAll(filepath.Dir(file))
	default:
		if _, err := os.Stat(file); err == nil {
			m.p.write(m.t, opsName, "[]")
		}
	}
	if m.rnd.IntN(2) == 0 {
		m.begin()
	}
	m.ops.foundLost()
	eventually(m.t, "what is active is counted again", func() bool {
		sum := m.p.sum(m.t)
		return (m.counts.Read == 0 || sum.Read > 0) && (m.counts.Write == 0 || sum.Write > 0) &&
			(m.open.Load() == 0 || sum.Total() > 0)
	})
}

func (m *model) check() {
	if got := m.ops.Counts(); got != m.counts {
		m.t.Fatalf("Counts: got %v, want %v", got, m.counts)
	}
	sum := m.p.sum(m.t)
	if m.counts.Read > 0 && sum.Read == 0 || m.counts.Write > 0 && sum.Write == 0 {
		m.t.Fatalf("published %v, active %v", sum, m.counts)
	}
}

// TestModel does random things one after the other and compares with the model
// after each.
func TestModel(t *testing.T) {
	checkLeaks(t)
	m := &model{t: t, p: newPlace(t), rnd: random(t)}
	m.ops = m.p.operations(t, func(o *Options) {
		o.Linger = time.Millisecond
		o.Changed = func(cfg.Mode) {}
		o.Drop = func() {
			if c := m.ops.Counts(); c.Total() != 0 {
				t.Errorf("Drop with %v active", c)
			}
			m.open.Store(0)
		}
	})
	acts := []struct {
		weight int
		do     func()
	}{{40, m.begin}, {45, m.release}, {3, m.releaseAll}, {4, m.set}, {1, m.drain}, {5, m.clear}, {2, m.lose}, {1, func() { time.Sleep(time.Millisecond) }}}
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	for range *steps {
		n := m.rnd.IntN(total)
		for _, a := range acts {
			if n -= a.weight; n < 0 {
				a.do()
				break
			}
		}
		m.check()
	}
	m.releaseAll()
	eventually(t, "zero in the end", func() bool { return m.p.sum(t) == opsfile.Counts{} && m.open.Load() == 0 })
}

// TestManyAtOnce has goroutines begin and release while the mode changes. While
// an offline that was not refused stands, nothing may be active or open.
func TestManyAtOnce(t *testing.T) {
	checkLeaks(t)
	p, rnd := newPlace(t), random(t)
	var held, open atomic.Int64
	ops := p.operations(t, func(o *Options) {
		o.Linger = time.Millisecond
		o.Drop = func() {
			if held.Load() != 0 {
				t.Error("Drop during an operation")
			}
			open.Store(0)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	for range 8 {
		own := rand.New(rand.NewPCG(rnd.Uint64(), 1))
		group.Go(func() {
			for ctx.Err() == nil {
				one(t, ops, own, &held, &open)
			}
		})
	}
	offlines := 0
	for range 60 {
		err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{Drain: rnd.IntN(4) == 0})
		if errors.Is(err, ErrConflict) {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
			continue
		}
		if err == nil {
			err = WaitIdle(t.Context(), p.host, testStore, cfg.Offline, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if held.Load() != 0 || open.Load() != 0 {
				t.Fatalf("offline, with %d active and %d open", held.Load(), open.Load())
			}
			time.Sleep(50 * time.Microsecond)
		}
		offlines++
		p.clearMode(t)
	}
	stop()
	group.Wait()
	eventually(t, "zero in the end", func() bool { return p.sum(t) == opsfile.Counts{} && ops.Counts() == opsfile.Counts{} })
	t.Logf("offline %d times", offlines)
}

// one is an operation, perhaps by somebody who does not wait for it.
func one(t *testing.T, ops *Operations, rnd *rand.Rand, held, open *atomic.Int64) {
	ctx := context.Background()
	if rnd.IntN(3) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(500))*time.Microsecond)
		defer cancel()
	}
	g, err := ops.Begin(ctx, cfg.Operation(1+rnd.IntN(2)))
	if err != nil {
		if !errors.Is(err, cfg.ErrOffline) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Begin: %v", err)
		}
		time.Sleep(100 * time.Microsecond)
		return
	}
	held.Add(1)
	open.Add(1)
	time.Sleep(time.Duration(rnd.IntN(300)) * time.Microsecond)
	held.Add(-1)
	g.Release()
	time.Sleep(time.Duration(rnd.IntN(4000)) * time.Microsecond)
}

// TestKilledProcesses has processes begin and release and be killed at any
// moment. Each holds a shared lock on a witness while it has an operation; who
// has set offline must get it exclusively.
func TestKilledProcesses(t *testing.T) {
	const processes, rounds = 6, 25
	p, rnd := newPlace(t), random(t)
	p.write(t, "witness", "")
	path := filepath.Join(p.dir, "witness")
	witness, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer witness.Close()
	start := func() *other {
		if os.Geteuid() == 0 && rnd.IntN(2) == 0 {
			return startContained(t, true, "churn", p.dir, testStore, path)
		}
		return startOther(t, "churn", p.dir, testStore, path)
	}
	var churners []*other
	for range processes {
		churners = append(churners, start())
	}
	for range rounds {
		i := rnd.IntN(processes)
		churners[i].cmd.Process.Kill()
		drain := rnd.IntN(2) == 0
		err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{Drain: drain, Wait: 20 * time.Millisecond})
		if err == nil {
			err = WaitIdle(t.Context(), p.host, testStore, cfg.Offline, nil)
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
		if err == nil {
			if err := statefile.Flock(witness, unix.LOCK_EX|unix.LOCK_NB); err != nil {
				t.Fatalf("offline (drain %v) with an active operation: %v", drain, err)
			}
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
			statefile.Flock(witness, unix.LOCK_UN)
			p.clearMode(t)
		}
		killed(t, churners[i])
		churners[i] = start()
	}
	for _, c := range churners {
		killed(t, c)
	}
	if got := p.sum(t); got != (opsfile.Counts{}) {
		t.Errorf("in the end: %v", got)
	}
}

// killed ends a helper that must not have ended by itself: it does so when it
// meets the exclusive lock on the witness.
func killed(t *testing.T, o *other) {
	t.Helper()
	o.kill()
	if o.cmd.ProcessState.Exited() {
		t.Errorf("an operation began during offline: process %d: %v", o.pid(), o.cmd.ProcessState)
	}
}

// BenchmarkBegin is what an open costs while others are active.
func BenchmarkBegin(b *testing.B) {
	p := newPlace(b)
	ops := p.operations(b, nil)
	begin(b, ops, cfg.Read)
	time.Sleep(50 * time.Millisecond) // datastore.cfg is no longer brand new
	for b.Loop() {
		g, err := ops.Begin(context.Background(), cfg.Read)
		if err != nil {
			b.Fatal(err)
		}
		g.Release()
	}
}
