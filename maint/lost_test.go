package maint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// losses are ways in which our entry gets lost while operations are active.
func losses(t *testing.T, p place) map[string]func() {
	me, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	sleeper := startOther(t, "sleep").process(t)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(){
		"file removed":              func() { do(os.Remove(at(opsName))) },
		"directory removed":         func() { do(os.RemoveAll(at("run/active-operations"))) },
		"run directory removed":     func() { do(os.RemoveAll(at("run"))) },
		"replaced by an empty list": func() { p.write(t, opsName, "[]") },
		"truncated":                 func() { do(os.Truncate(at(opsName), 0)) },
		"overwritten in place": func() {
			do(os.WriteFile(at(opsName), []byte("[]"), 0o600))
		},
		"replaced by another's entry": func() { p.write(t, opsName, "["+entryText(sleeper, 2, 0)+"]") },
		"count changed":               func() { p.write(t, opsName, "["+entryText(me, 0, 0)+"]") },
		"start time changed": func() {
			p.write(t, opsName, "["+entryText(procfs.Process{PID: me.PID, StartTime: me.StartTime + 1}, 1, 0)+"]")
		},
		"moved away": func() { do(os.Rename(at("run/active-operations"), at("run/elsewhere"))) },
	}
}

func TestLostCountComesBack(t *testing.T) {
	p := newPlace(t)
	for what, lose := range losses(t, p) {
		synctest.Test(t, func(t *testing.T) {
			ops := p.operations(t, nil)
			g := begin(t, ops, cfg.Read)
			lose()
			start := time.Now()
			for ownCount(t, p) != (opsfile.Counts{Read: 1}) {
				if time.Since(start) > time.Second {
					t.Fatalf("%s: not counted again after a second", what)
				}
				time.Sleep(10 * time.Millisecond)
				synctest.Wait()
			}
			g.Release()
		})
	}
}

// An operation that begins where the entry was lost is published before it begins,
// whoever looked last.
func TestOpenRegistersFirstWhereTheCountWasLost(t *testing.T) {
	p := newPlace(t)
	for what, lose := range losses(t, p) {
		t.Run(what, func(t *testing.T) {
			ops := p.operations(t, nil)
			g := begin(t, ops, cfg.Read)
			// The keeper is kept from helping.
			ops.mu.Lock()
			ops.verifyAt, ops.displayAt = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
			ops.mu.Unlock()
			lose()
			second := begin(t, ops, cfg.Read)
			if got := ownCount(t, p); got.Read == 0 {
				t.Errorf("the operation has begun, and the file says %v", got)
			}
			if got := ops.Counts(); got != (opsfile.Counts{Read: 2}) {
				t.Errorf("Counts: %v", got)
			}
			second.Release()
			g.Release()
		})
	}
}

// ownCount is what the file says of this process.
func ownCount(t *testing.T, p place) opsfile.Counts {
	t.Helper()
	me, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := opsfile.Read(p.host.OperationsFile(testStore))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Is(me) {
			return e.Counts
		}
	}
	return opsfile.Counts{}
}

// A user's run directory goes with the last session, and the user's mounts stay.
func TestCountsWithoutARunDirectory(t *testing.T) {
	user, root, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	u, r := user.Layout(), root.Layout()
	u.SpareRun, r.SpareUsers = filepath.Join(p.dir, "spare-1"), filepath.Join(p.dir, "spare-*")
	user, root = u.Host(), r.Host()
	sum := func() opsfile.Counts {
		c, err := Sum(root, testStore)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ops := p.operations(t, func(o *Options) { o.Host = user })
	g := begin(t, ops, cfg.Read)
	if err := os.RemoveAll(filepath.Join(p.dir, "users")); err != nil {
		t.Fatal(err)
	}
	p.write(t, "users", "no directory") // which cannot be made again
	eventually(t, "root counts the user again", func() bool { return sum() == opsfile.Counts{Read: 1} })
	begin(t, ops, cfg.Read).Release()
	g.Release()
	eventually(t, "nothing is counted", func() bool { return sum() == opsfile.Counts{} })
}

func TestSpareDirectoryIsTheUsersOwn(t *testing.T) {
	for what, put := range map[string]func(string) error{
		"link": func(path string) error { return os.Symlink(t.TempDir(), path) },
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"another's": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o777), os.Chown(path, nobody, nobody))
		},
	} {
		p := newPlace(t)
		at := p.host.Layout()
		at.SpareRun = filepath.Join(p.dir, "spare")
		host := at.Host()
		if err := put(at.SpareRun); err != nil {
			t.Skipf("%s: %v", what, err)
		}
		if _, err := host.Spare(); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestEntriesOfOthersSurviveALoss(t *testing.T) {
	p := newPlace(t)
	sleeper := startOther(t, "sleep").process(t)
	ops := p.operations(t, nil)
	begin(t, ops, cfg.Read)
	p.write(t, opsName, "["+entryText(sleeper, 2, 1)+"]")
	begin(t, ops, cfg.Read)
	if got := p.sum(t); got.Read < 3 || got.Write != 1 {
		t.Errorf("got %v, want both processes", got)
	}
}

// What cannot be read may hide the counts of others: it stays, and nothing begins.
func TestUnreadableFileIsNotReplaced(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"garbage":   func(path string) error { return os.WriteFile(path, []byte("}{"), 0o600) },
		"fifo":      func(path string) error { return mkfifo(path) },
		"link":      func(path string) error { return os.Symlink("/dev/null", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			ops := p.operations(t, nil)
			g := begin(t, ops, cfg.Read)
			path := p.host.OperationsFile(testStore)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ops.Begin(t.Context(), cfg.Read); err == nil || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("Begin: got %v, want an error that names %s", err, path)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it was replaced: %v", err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			begin(t, ops, cfg.Read)
			if got := ownCount(t, p); got.Read == 0 {
				t.Errorf("after it was removed, the file says %v", got)
			}
			g.Release()
		})
	}
}

func TestHugeCountsDoNotOverflow(t *testing.T) {
	p := newPlace(t)
	const most = 1<<63 - 1
	var texts []string
	for range 3 {
		o := startOther(t, "sleep").process(t)
		texts = append(texts, fmt.Sprintf(`{"pid":%d,"starttime":%d,"active_operations":{"read":%d,"write":%d}}`, o.PID, o.StartTime, most, most))
	}
	p.write(t, opsName, "["+strings.Join(texts, ",")+"]")
	if got := p.sum(t); got != (opsfile.Counts{Read: most, Write: most}) || got.Total() != most {
		t.Errorf("got %v, total %d", got, got.Total())
	}
	if err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{}); err == nil {
		t.Error("offline was set")
	}
}
