package maint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

func TestGarbledFileRefusesAndStays(t *testing.T) {
	for _, text := range []string{" ", "null", "{}", `[{"pid":1}]`, `[{"pid":"x","starttime":1,"active_operations":{"read":1,"write":0}}]`, "[1]", `[{"pid":1,"starttime":2,"active_operations":{"read":1}}]`} {
		p := newPlace(t)
		p.write(t, opsName, text)
		ops := p.operations(t, nil)
		_, err := ops.Begin(t.Context(), cfg.Read)
		if !errors.Is(err, ErrUncounted) || !errors.Is(err, opsfile.ErrGarbled) || !strings.Contains(err.Error(), p.host.OperationsFile(testStore)) {
			t.Errorf("%q: got %v", text, err)
		}
		if err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, opsfile.ErrGarbled) {
			t.Errorf("%q: SetMode: %v", text, err)
		}
		if got := p.read(t, opsName); got != text {
			t.Errorf("%q was overwritten with %q", text, got)
		}
		if got := p.config(t); got != plainConfig {
			t.Errorf("%q: datastore.cfg is now %q", text, got)
		}
	}
}

func TestStuckLockNamesItsHolder(t *testing.T) {
	p := newPlace(t)
	for _, lock := range []string{p.host.ConfigLock(), p.host.OperationsFile(testStore) + ".lock"} {
		if err := os.MkdirAll(filepath.Dir(lock), 0o755); err != nil {
			t.Fatal(err)
		}
		holder := startOther(t, "lock", lock)
		synctest.Test(t, func(t *testing.T) { // ten seconds go by at once
			ops := p.operations(t, nil)
			start := time.Now()
			_, err := ops.Begin(t.Context(), cfg.Read)
			var stuck *statefile.LockError
			if !errors.Is(err, ErrUncounted) || !errors.As(err, &stuck) {
				t.Fatalf("Begin: got %v", err)
			}
			if stuck.File != lock || stuck.Holder.PID != holder.pid() {
				t.Errorf("got %+v, want lock %s held by %d", stuck, lock, holder.pid())
			}
			if d := time.Since(start); d != statefile.LockTimeout {
				t.Errorf("waited %v", d)
			}
		})
		holder.end()
		ops := p.operations(t, nil)
		begin(t, ops, cfg.Read).Release()
	}
}

func TestRemovalThatFailsIsTriedAgain(t *testing.T) {
	p := newPlace(t)
	ops := p.operations(t, nil)
	g := begin(t, ops, cfg.Read)
	good := p.read(t, opsName)
	p.write(t, opsName, "garbage")
	g.Release()
	eventually(t, "failed removal", func() bool { ops.mu.Lock(); defer ops.mu.Unlock(); return ops.residue })
	p.write(t, opsName, good)
	eventually(t, "removal", func() bool { return p.read(t, opsName) == "[]" })
}

func TestKilledProcessCountsNothing(t *testing.T) {
	p := newPlace(t)
	holder := startOther(t, "hold", p.dir, testStore, "read")
	if got := p.sum(t); got != (opsfile.Counts{Read: 1}) {
		t.Fatalf("published: %v", got)
	}
	procs, err := Processes(p.host, testStore)
	if err != nil || len(procs) != 1 || procs[0].PID != holder.pid() || procs[0].Name == "" {
		t.Errorf("Processes: %v, %v", procs, err)
	}
	holder.cmd.Process.Kill()
	eventually(t, "count goes with its process", func() bool { return p.sum(t) == opsfile.Counts{} })
	p.setMode(t, cfg.Offline, SetOptions{})
}
