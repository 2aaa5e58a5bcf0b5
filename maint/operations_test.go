package maint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

func TestBeginPublishesAndReleaseRemoves(t *testing.T) {
	checkLeaks(t)
	p := newPlace(t)
	var drops atomic.Int32
	ops := p.operations(t, func(o *Options) { o.Drop = func() { drops.Add(1) } })
	g := begin(t, ops, cfg.Read)
	me, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`[{"pid":%d,"starttime":%d,"active_operations":{"read":1,"write":0}}]`, me.PID, me.StartTime)
	if got := p.read(t, opsName); got != want {
		t.Errorf("operations file: got %s, want %s", got, want)
	}
	second := begin(t, ops, cfg.Read)
	if got, want := ops.Counts(), (opsfile.Counts{Read: 2}); got != want {
		t.Errorf("Counts: got %v, want %v", got, want)
	}
	second.Release()
	second.Release()
	g.Release()
	if got := ops.Counts(); got != (opsfile.Counts{}) {
		t.Errorf("Counts after Release: got %v", got)
	}
	eventually(t, "our entry is removed", func() bool { return p.read(t, opsName) == "[]" })
	if n := drops.Load(); n != 1 {
		t.Errorf("Drop was called %d times", n)
	}
}

func TestGuardsThatHoldNothing(t *testing.T) {
	var none *Guard
	none.Release()
	var zero Guard
	zero.Release()
	if none.Held() || zero.Held() || none.Operation() != 0 {
		t.Error("a guard from nowhere holds something")
	}
	p := newPlace(t)
	if _, err := p.operations(t, nil).Begin(t.Context(), 0); err == nil {
		t.Error("Begin of no operation succeeded")
	}
}

func TestModesRefuse(t *testing.T) {
	tests := []struct {
		property    string
		read, write error
	}{
		{"", nil, nil},
		{"read-only", nil, cfg.ErrReadOnly},
		{"offline", cfg.ErrOffline, cfg.ErrOffline},
		{"delete", cfg.ErrDeleted, cfg.ErrDeleted},
		{"unmount", cfg.ErrUnmounting, cfg.ErrUnmounting},
		{"s3-refresh", cfg.ErrOffline, cfg.ErrOffline},
		{"from-the-future", cfg.ErrOffline, cfg.ErrOffline},
		{`offline,message="broken`, cfg.ErrOffline, cfg.ErrOffline},
	}
	p := newPlace(t)
	ops := p.operations(t, nil)
	for _, holding := range []bool{false, true} {
		for _, tt := range tests {
			text := plainConfig
			if tt.property != "" {
				text = strings.Replace(text, "\tcomment", "\tmaintenance-mode "+tt.property+"\n\tcomment", 1)
			}
			var keep *Guard
			if holding { // the mode is then forced on an active process
				p.writeConfig(t, plainConfig)
				keep = begin(t, ops, cfg.Read)
			}
			p.writeConfig(t, text)
			for op, want := range map[cfg.Operation]error{cfg.Read: tt.read, cfg.Write: tt.write} {
				g, err := ops.Begin(t.Context(), op)
				g.Release()
				if !errors.Is(err, want) {
					t.Errorf("mode %q, holding %v: Begin(%v): got %v, want %v", tt.property, holding, op, err, want)
				}
			}
			keep.Release()
		}
	}
	if got := ops.Counts(); got != (opsfile.Counts{}) {
		t.Errorf("Counts: got %v", got)
	}
}

func TestNoConfigurationIsNoMode(t *testing.T) {
	p := newPlace(t)
	if err := os.RemoveAll(filepath.Join(p.dir, "etc")); err != nil {
		t.Fatal(err)
	}
	begin(t, p.operations(t, nil), cfg.Write)
}

func TestFirstWriteAmongReadsIsPublished(t *testing.T) {
	p := newPlace(t)
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	w := begin(t, ops, cfg.Write)
	if got := p.sum(t); got.Write != 1 {
		t.Errorf("published: got %v, want one write", got)
	}
	err := SetMode(t.Context(), p.host, testStore, cfg.ReadOnly, SetOptions{})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("read-only while a write is active: got %v", err)
	}
	w.Release()
	p.setMode(t, cfg.ReadOnly, SetOptions{Wait: 5 * time.Second})
	if got := ops.Counts(); got != (opsfile.Counts{Read: 1}) {
		t.Errorf("Counts: got %v", got)
	}
}

func TestLinger(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		var drops atomic.Int32
		ops := p.operations(t, func(o *Options) { o.Drop = func() { drops.Add(1) } })
		for range 5 { // each within the linger of the one before
			begin(t, ops, cfg.Read).Release()
			time.Sleep(maxLinger - time.Millisecond)
			synctest.Wait()
			if drops.Load() != 0 || p.sum(t).Read == 0 {
				t.Fatalf("did not linger: %d drops, published %v", drops.Load(), p.sum(t))
			}
			if ops.Counts() != (opsfile.Counts{}) {
				t.Fatalf("what lingers is counted: %v", ops.Counts())
			}
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if drops.Load() != 1 || p.sum(t) != (opsfile.Counts{}) {
			t.Errorf("after the linger: %d drops, published %v", drops.Load(), p.sum(t))
		}
	})
}

func TestJoinNeedsAnother(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		ops := p.operations(t, nil)
		join := func(want error) *Guard {
			t.Helper()
			g, err := ops.Join(cfg.Read)
			if !errors.Is(err, want) {
				t.Errorf("Join: %v, want %v", err, want)
			}
			return g
		}
		join(ErrIdle)
		first := begin(t, ops, cfg.Read)
		second := join(nil)
		if got := ops.Counts(); got != (opsfile.Counts{Read: 2}) {
			t.Errorf("Counts beside another: %v", got)
		}
		if _, err := ops.Join(cfg.Write); !errors.Is(err, ErrIdle) {
			t.Errorf("Join as the first that writes: %v", err)
		}
		first.Release()
		if p.sum(t) == (opsfile.Counts{}) || ops.Counts() != (opsfile.Counts{Read: 1}) {
			t.Errorf("who joined counts for %v, published %v", ops.Counts(), p.sum(t))
		}
		second.Release()
		join(nil).Release() // while the count lingers
		p.setMode(t, cfg.Offline, SetOptions{Drain: true})
		join(cfg.ErrOffline)
		time.Sleep(maxLinger)
		synctest.Wait()
		if got := p.sum(t); got != (opsfile.Counts{}) {
			t.Errorf("published at the end: %v", got)
		}
	})
}

func TestPublishedCountsFollow(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		ops := p.operations(t, nil)
		var guards []*Guard
		for range 7 {
			guards = append(guards, begin(t, ops, cfg.Read))
		}
		time.Sleep(displayEvery + time.Millisecond)
		synctest.Wait()
		if got := p.sum(t); got.Read != 7 {
			t.Errorf("published after a second: %v", got)
		}
		for _, g := range guards[1:] {
			g.Release()
		}
		time.Sleep(displayEvery + time.Millisecond)
		synctest.Wait()
		if got := p.sum(t); got.Read != 1 {
			t.Errorf("published after another second: %v", got)
		}
		guards[0].Release()
	})
}

func TestForcedModeEndsTheLingerAtOnce(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		dropped := make(chan time.Time, 1)
		ops := p.operations(t, func(o *Options) { o.Drop = func() { dropped <- time.Now() } })
		g := begin(t, ops, cfg.Read)
		p.setMode(t, cfg.Offline, SetOptions{Drain: true})
		if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
			t.Fatalf("Begin: %v", err)
		}
		start := time.Now()
		g.Release()
		if d := (<-dropped).Sub(start); d != 0 {
			t.Errorf("lingered %v", d)
		}
	})
}

func TestDropRunsBeforeZeroIsPublishedAndAlone(t *testing.T) {
	p := newPlace(t)
	inDrop, goOn := make(chan bool), make(chan bool)
	ops := p.operations(t, func(o *Options) {
		o.Linger = -1
		o.Drop = func() { inDrop <- true; <-goOn }
	})
	begin(t, ops, cfg.Read).Release()
	<-inDrop
	if got := p.sum(t); got.Read == 0 {
		t.Error("zero was published before Drop returned")
	}
	began := make(chan *Guard)
	go func() {
		g, err := ops.Begin(context.Background(), cfg.Read)
		if err != nil {
			t.Error(err)
		}
		began <- g
	}()
	// One that does not want to wait that long leaves.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := ops.Begin(ctx, cfg.Read); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Begin during Drop: %v", err)
	}
	select {
	case <-began:
		t.Fatal("an operation began during Drop")
	default:
	}
	goOn <- true
	g := <-began
	if got := ops.Counts(); got != (opsfile.Counts{Read: 1}) {
		t.Errorf("Counts: %v", got)
	}
	go func() { <-inDrop; goOn <- true }()
	g.Release()
	eventually(t, "removal", func() bool { return p.sum(t) == opsfile.Counts{} })
}

func TestWatcherTellsAndIdleMountsReact(t *testing.T) {
	checkLeaks(t)
	p := newPlace(t)
	modes, caches := make(chan cfg.Mode, 9), make(chan bool, 9)
	ops := p.operations(t, func(o *Options) {
		o.Changed = func(m cfg.Mode) { modes <- m }
		o.DropCaches = func() { caches <- true }
	})
	p.setMode(t, cfg.Offline, SetOptions{Message: "disk, swap"})
	start := time.Now()
	if m := <-modes; m.Type != cfg.Offline || m.Message != "disk, swap" || time.Since(start) > 2*time.Second {
		t.Errorf("got %+v after %v", m, time.Since(start))
	}
	<-caches
	p.clearMode(t)
	if m := <-modes; m.Type != cfg.None {
		t.Errorf("got %+v", m)
	}
	if got := ops.Mode(); got != (cfg.Mode{}) {
		t.Errorf("Mode: %+v", got)
	}
}

func TestCloseRefusesWhileActive(t *testing.T) {
	p := newPlace(t)
	ops := p.operations(t, nil)
	g := begin(t, ops, cfg.Read)
	if err := ops.Close(); !errors.Is(err, ErrActive) {
		t.Fatalf("Close while active: %v", err)
	}
	begin(t, ops, cfg.Read).Release()
	g.Release()
	if err := ops.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.read(t, opsName); got != "[]" {
		t.Errorf("after Close: %s", got)
	}
	if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, ErrClosed) {
		t.Errorf("Begin after Close: %v", err)
	}
}

func TestUntracked(t *testing.T) {
	p := newPlace(t)
	var drops atomic.Int32
	ops := p.operations(t, func(o *Options) { o.Untracked = true; o.Drop = func() { drops.Add(1) } })
	g := begin(t, ops, cfg.Read)
	begin(t, ops, cfg.Read).Release()
	if ops.Counts() != (opsfile.Counts{Read: 1}) {
		t.Errorf("Counts: %v", ops.Counts())
	}
	if _, err := os.Stat(p.host.OperationsDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was published: %v", err)
	}
	g.Release()
	eventually(t, "drop", func() bool { return drops.Load() == 1 })
	p.setMode(t, cfg.Offline, SetOptions{})
	if _, err := ops.Begin(t.Context(), cfg.Read); !errors.Is(err, cfg.ErrOffline) {
		t.Errorf("Begin in offline: %v", err)
	}
}

func TestTwoOperationsOfOneProcessShareTheEntry(t *testing.T) {
	p := newPlace(t)
	a, b := p.operations(t, nil), p.operations(t, nil)
	ga, gb := begin(t, a, cfg.Read), begin(t, b, cfg.Read)
	if got := p.sum(t); got.Read != 2 {
		t.Errorf("published: %v", got)
	}
	ga.Release()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.sum(t); got.Read != 1 {
		t.Errorf("published after one closed: %v", got)
	}
	gb.Release()
}

// An operation may be counted in the very moment its context ends. It is then
// either the caller's or taken back.
func TestCountedAsTheContextEnds(t *testing.T) {
	p := newPlace(t)
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		ops.mu.Lock()
		ops.counts.Read++
		ops.mu.Unlock()
		w := &waiter{op: cfg.Read, done: make(chan error, 1)}
		w.done <- nil
		if ops.await(ctx, w) == nil {
			ops.release(cfg.Read)
		}
		if got := ops.Counts(); got != (opsfile.Counts{Read: 1}) {
			t.Fatalf("Counts: %v", got)
		}
	}
}
