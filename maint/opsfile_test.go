package maint

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

func entryText(p procfs.Process, read, write int) string {
	return fmt.Sprintf(`{"pid":%d,"starttime":%d,"active_operations":{"read":%d,"write":%d}}`, p.PID, p.StartTime, read, write)
}

func TestForeignEntries(t *testing.T) {
	sleeper := startOther(t, "sleep").process(t)
	dead := startOther(t, "sleep")
	gone := dead.process(t)
	dead.end()
	reused := procfs.Process{PID: sleeper.PID, StartTime: sleeper.StartTime - 1}
	odd := fmt.Sprintf(`{ "starttime": %d,"pid":%d , "new":[1, {"a":"\u0041<>"}],"active_operations":{"write":0, "read":7,"x":null}}`, sleeper.StartTime, sleeper.PID)
	tests := []struct {
		name, file string
		sum        opsfile.Counts
		kept       string // beside our own entry
	}{
		{"missing", "-", opsfile.Counts{}, ""},
		{"empty", "[]", opsfile.Counts{}, ""},
		{"alive", "[" + entryText(sleeper, 3, 2) + "]", opsfile.Counts{Read: 3, Write: 2}, entryText(sleeper, 3, 2)},
		{"alive at zero", "[" + entryText(sleeper, 0, 0) + "]", opsfile.Counts{}, entryText(sleeper, 0, 0)},
		{"dead", "[" + entryText(gone, 3, 2) + "]", opsfile.Counts{}, ""},
		{"pid reused", "[" + entryText(reused, 3, 2) + "]", opsfile.Counts{}, ""},
		{"below zero hides nobody", "[" + entryText(sleeper, -5, 1) + "]", opsfile.Counts{Read: 0, Write: 1}, entryText(sleeper, -5, 1)},
		{"byte for byte", "[ " + odd + " ]", opsfile.Counts{Read: 7, Write: 0}, odd},
		{"pid 0", `[{"pid":0,"starttime":0,"active_operations":{"read":1,"write":0}}]`, opsfile.Counts{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			if tt.file != "-" {
				p.write(t, opsName, tt.file)
			}
			if got := p.sum(t); got != tt.sum {
				t.Errorf("Sum of %s: got %v, want %v", tt.file, got, tt.sum)
			}
			ops := p.operations(t, nil)
			g := begin(t, ops, cfg.Read)
			me, _ := procfs.Self()
			list := []string{entryText(me, 1, 0)}
			left := "[]"
			if tt.kept != "" {
				list, left = []string{tt.kept, list[0]}, "["+tt.kept+"]"
			}
			if got, want := p.read(t, opsName), "["+strings.Join(list, ",")+"]"; got != want {
				t.Errorf("while active: got %s, want %s", got, want)
			}
			g.Release()
			eventually(t, "removal", func() bool { return p.read(t, opsName) == left })
		})
	}
}

func TestOwnStaleEntryIsReplaced(t *testing.T) {
	p := newPlace(t)
	me, _ := procfs.Self()
	p.write(t, opsName, "["+entryText(procfs.Process{PID: me.PID, StartTime: me.StartTime - 9}, 5, 5)+"]")
	begin(t, p.operations(t, nil), cfg.Read)
	if got, want := p.read(t, opsName), "["+entryText(me, 1, 0)+"]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPBSDaemonsAreSeeded(t *testing.T) {
	p, proxy, api := newPBSPlace(t)
	ops := p.operations(t, nil)
	g := begin(t, ops, cfg.Read)
	me, _ := procfs.Self()
	want := fmt.Sprintf("[%s,%s,%s]", entryText(proxy.process(t), 0, 0), entryText(api.process(t), 0, 0), entryText(me, 1, 0))
	if got := p.read(t, opsName); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A daemon that restarts while we are listed is seeded again.
	restarted := startOther(t, "daemon")
	p.write(t, "run/proxy.pid", fmt.Sprint(restarted.pid()))
	eventually(t, "new proxy is listed", func() bool {
		return strings.Contains(p.read(t, opsName), entryText(restarted.process(t), 0, 0))
	})
	g.Release()
	eventually(t, "only PBS is left", func() bool {
		text := p.read(t, opsName)
		return !strings.Contains(text, fmt.Sprintf(`"pid":%d,`, me.PID)) && strings.Contains(text, entryText(api.process(t), 0, 0))
	})
}

func TestPBSThatCannotBeSeenIsNotCounted(t *testing.T) {
	if v, err := procfs.Around(); err == nil && v.Namespace == procfs.InitPIDNamespace && v.All {
		// Here a pid that is not there is a PBS that is stopped.
		p, proxy, _ := newPBSPlace(t)
		proxy.end()
		if err := CheckTracking(t.Context(), p.host, testStore); err != nil {
			t.Errorf("with PBS stopped: %v", err)
		}
		begin(t, p.operations(t, nil), cfg.Read)
	}
}

// oldPBS is the update rule of a PBS before 4.0.21: a process that is not
// listed is recorded only in an empty list.
func oldPBS(t *testing.T, text string, me procfs.Process, read, write int64) string {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("an old PBS cannot read %s: %v", text, err)
	}
	found := false
	var out []string
	for _, e := range list {
		pid, start := int(e["pid"].(float64)), uint64(e["starttime"].(float64))
		counts := e["active_operations"].(map[string]any)
		r, w := int64(counts["read"].(float64)), int64(counts["write"].(float64))
		switch {
		case pid == me.PID && start == me.StartTime:
			found = true
			r, w = r+read, w+write
		case pid == me.PID || !procfs.Alive(pid, start):
			continue
		}
		out = append(out, entryText(procfs.Process{PID: pid, StartTime: start}, int(r), int(w)))
	}
	if !found && len(out) == 0 {
		out = append(out, entryText(me, int(max(read, 0)), int(max(write, 0))))
	}
	return "[" + strings.Join(out, ",") + "]"
}

func TestOldPBSLosesNobody(t *testing.T) {
	p, proxy, api := newPBSPlace(t)
	ops := p.operations(t, nil)
	g := begin(t, ops, cfg.Read)
	update := func(who *other, read, write int64) {
		lock, err := hosts.LockOperations(t.Context(), p.host, p.host.OperationsFile(testStore))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Unlock()
		p.write(t, opsName, oldPBS(t, p.read(t, opsName), who.process(t), read, write))
	}
	update(proxy, 0, 1) // a backup begins
	update(api, 1, 0)
	if got := p.sum(t); got != (opsfile.Counts{Read: 2, Write: 1}) {
		t.Errorf("while all are active: %v", got)
	}
	g.Release()
	eventually(t, "PBS alone is counted", func() bool { return p.sum(t) == opsfile.Counts{Read: 1, Write: 1} })
	again := begin(t, ops, cfg.Read)
	update(proxy, 0, -1)
	update(api, -1, 0)
	if got := p.sum(t); got != (opsfile.Counts{Read: 1}) {
		t.Errorf("we alone: %v", got)
	}
	again.Release()
	eventually(t, "nobody is counted", func() bool { return p.sum(t) == opsfile.Counts{} })
	update(proxy, 1, 0)
	if got := p.sum(t); got != (opsfile.Counts{Read: 1}) {
		t.Errorf("PBS without us: %v", got)
	}
}

func TestFilesGetPBSOwnerAndMode(t *testing.T) {
	p, _, _ := newPBSPlace(t)
	const uid, gid = 34, 34
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	if err := os.Chown(p.host.RunDir(), uid, gid); err != nil {
		t.Fatal(err)
	}
	p.look(t)
	begin(t, p.operations(t, nil), cfg.Read)
	for path, mode := range map[string]os.FileMode{
		p.host.OperationsDir():                     0o750 | os.ModeDir,
		p.host.OperationsFile(testStore):           0o660,
		p.host.OperationsFile(testStore) + ".lock": 0o660,
		p.host.ConfigLock():                        0o660,
	} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if own := statefile.StatOwner(st); st.Mode() != mode || own.UID != uid || own.GID != gid {
			t.Errorf("%s: got %v %d:%d", path, st.Mode(), own.UID, own.GID)
		}
	}
}

func FuzzDecodeOperations(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"pid":1234,"starttime":987654,"active_operations":{"read":1,"write":0}}]`))
	f.Add([]byte(`[{"pid":1,"starttime":2,"active_operations":{"read":-1,"write":9},"x":{}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := opsfile.Decode(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Counts.Read < 0 || e.Counts.Write < 0 {
				t.Fatalf("count below zero in %q", data)
			}
		}
		again, err := opsfile.Decode(opsfile.Encode(entries))
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%q does not survive: %v", data, err)
		}
		for i := range again {
			if string(again[i].Raw) != string(entries[i].Raw) {
				t.Fatalf("entry %d of %q: got %q", i, data, again[i].Raw)
			}
		}
	})
}
