package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The names in the JSON are what programs rely on.
func TestStatusHasDocumentedFields(t *testing.T) {
	m := newTank(t, copyFixture(t, "ds-basic"))
	a := startActor(t, "hold", m.path(diskImage))
	must(t, os.Truncate(filepath.Join(m.store, alpha, "catalog.pcat1.didx"), 100))
	wantErrno(t, "opening a file whose index is damaged", opens(m.path(alpha, "catalog.pcat1")), unix.EIO)
	m.host.run("maintenance", "set", tank, "read-only", "--message", "why").want(t, 0)

	var all []map[string]any
	got := m.host.run("status", tank, "--json")
	got.want(t, 0)
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil || len(all) != 1 {
		t.Fatalf("got %q, want a list of one datastore", got.stdout)
	}
	for name, kind := range map[string]string{
		"datastore": "string", "path": "string", "mode": "string", "message": "string",
		"mounts": "[]interface {}", "processes": "[]interface {}", "handles": "[]interface {}",
		"locked_snapshots": "[]interface {}", "problems": "[]interface {}",
	} {
		if is := fmt.Sprintf("%T", all[0][name]); is != kind {
			t.Errorf("%s: got %s, want %s", name, is, kind)
		}
	}
	for list, names := range map[string][]string{
		"mounts":           {"mountpoint", "pid", "since"},
		"processes":        {"pid", "starttime", "name", "read", "write"},
		"handles":          {"path", "pid", "name", "how", "age_s"},
		"locked_snapshots": {"snapshot", "mountpoint", "since"},
		"problems":         {"time", "text"},
	} {
		entries, _ := all[0][list].([]any)
		if len(entries) != 1 {
			t.Errorf("%s: got %v, want one", list, entries)
			continue
		}
		entry, _ := entries[0].(map[string]any)
		for _, name := range names {
			if _, ok := entry[name]; !ok {
				t.Errorf("%s: got %v, want %s in it", list, entry, name)
			}
		}
	}
	a.checkShown(m)
}

// checkShown checks what is shown while the process has the disk image open.
func (a *actor) checkShown(m *mount) {
	t := a.t
	t.Helper()
	s := m.host.status()
	if s.Datastore != tank || s.Path != m.store || *s.Mode != "read-only" || s.Message != "why" {
		t.Errorf("got %+v", s)
	}
	if x := s.Mounts[0]; x.Mountpoint != m.dir || x.PID != m.process.pid || time.Since(x.Since) > time.Hour {
		t.Errorf("got the mount %+v", x)
	}
	if x := s.Processes[0]; x.PID != m.process.pid || fmt.Sprint(x.StartTime) != m.process.start || x.Name != "pbsfs" || x.Read != 1 || x.Write != 0 {
		t.Errorf("got the process %+v", x)
	}
	if x := s.Handles[0]; x.Path != m.path(diskImage) || x.PID != a.pid || x.Name != filepath.Base(os.Args[0]) || x.How != "descriptor" {
		t.Errorf("got the handle %+v", x)
	} else if x.Age == nil || *x.Age < 0 || *x.Age > 3600 {
		t.Errorf("got the age %v", x.Age)
	}
	if x := s.Locked[0]; x.Snapshot != vm100 || x.Mountpoint != m.dir {
		t.Errorf("got the locked snapshot %+v", x)
	}
	if x := s.Problems[0]; !strings.Contains(x.Text, "catalog.pcat1") {
		t.Errorf("got the problem %+v", x)
	}
	got := m.host.run("status")
	got.want(t, 0)
	for _, text := range []string{tank, m.store, "read-only: why", m.dir, a.who() + " (descriptor)", m.path(diskImage), vm100, "1 read", "catalog.pcat1"} {
		if !strings.Contains(got.stdout, text) {
			t.Errorf("status: got this, want %q in it:\n%s", text, got.stdout)
		}
	}
}

func TestStatusWatches(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	r := m.host.start("status", tank, "--json", "--watch")
	for _, mode := range []string{"null", `"read-only"`} {
		eventually(t, "the mode "+mode+" being shown", func() error {
			line, err := r.stdout.ReadString('\n')
			if must(t, err); !strings.Contains(line, `"mode":`+mode) {
				return unlike("got %s", line)
			}
			return nil
		})
		m.host.run("maintenance", "set", tank, "read-only").want(t, 0)
	}
	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.end(0)
}

// Without an argument, all datastores are shown that are configured or mounted.
func TestStatusOfAllDatastores(t *testing.T) {
	m := newTank(t, fixture(t, "ds-basic"))
	other := m.host.mount(fixture(t, "ds-split"))
	var all []status
	must(t, json.Unmarshal([]byte(m.host.run("status", "--json").stdout), &all))
	all = slices.DeleteFunc(all, func(s status) bool { // whatever else is mounted here
		return s.Datastore != tank && s.Datastore != other.name()
	})
	if len(all) != 2 || all[0].Datastore != tank || all[1].Datastore != other.name() {
		t.Errorf("got %+v, want %s and %s", all, tank, other.name())
	}
	for _, s := range all {
		if s.Mode != nil || len(s.Mounts) != 1 || s.Processes == nil || s.Handles == nil || s.Locked == nil || s.Problems == nil {
			t.Errorf("got %+v, want no mode, one mount, and no list that is null", s)
		}
	}
	m.host.run("status", "nothing").want(t, 1)
}

// datastores returns what is configured.
func (h *host) datastores() []string {
	h.t.Helper()
	got := h.run("datastore", "list", "--json")
	got.want(h.t, 0)
	var all []struct {
		Name, Path, Comment string
		BackingDevice       string `json:"backing_device"`
		Maintenance         *string
	}
	must(h.t, json.Unmarshal([]byte(got.stdout), &all))
	var out []string
	for _, d := range all {
		mode := "-"
		if d.Maintenance != nil {
			mode = *d.Maintenance
		}
		out = append(out, strings.Join([]string{d.Name, d.Path, d.BackingDevice, d.Comment, mode}, "|"))
	}
	return out
}

func TestDatastoresAreListedAddedAndRemoved(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-basic")
	if got := h.datastores(); len(got) != 0 {
		t.Errorf("at first: got %q", got)
	}
	h.run("datastore", "add", tank, store, "--comment", "a comment").want(t, 0)
	h.run("datastore", "add", "usb", "pbs/store", "--backing-device", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0").want(t, 0)
	h.run("maintenance", "set", tank, "read-only").want(t, 0)
	want := []string{
		tank + "|" + store + "||a comment|read-only",
		"usb|/mnt/datastore/usb|0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0||-",
	}
	if got := h.datastores(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := h.run("datastore", "list"); !strings.Contains(got.stdout, store) || !strings.Contains(got.stdout, "read-only") {
		t.Errorf("datastore list: got %q", got.stdout)
	}
	config := h.config()
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"add", tank, store}, 1},
		{[]string{"add", "other", t.TempDir()}, 1},
		{[]string{"add", "a/b", store}, 2},
		{[]string{"add", "a b", store}, 2},
		{[]string{"add", "x", store}, 2},             // the server wants three characters
		{[]string{"add", "other", store + "\nx"}, 1}, // is not there
		{[]string{"add", "other", store}, 1},         // is tank already
		{[]string{"add", "other", store, "--comment", "two\nlines"}, 2},
		{[]string{"add", "other"}, 2},
		{[]string{"remove", "nothing"}, 1},
		{[]string{"remove"}, 2},
	} {
		h.run(append([]string{"datastore"}, c.args...)...).want(t, c.code)
		if now := h.config(); now != config {
			t.Errorf("%q: datastore.cfg changed to %q", c.args, now)
		}
	}
	h.run("datastore", "remove", tank).want(t, 0)
	if got := h.datastores(); !slices.Equal(got, want[1:]) {
		t.Errorf("after a removal: got %q, want %q", got, want[1:])
	}
	if _, err := os.Stat(filepath.Join(store, ".chunks")); err != nil {
		t.Error(err)
	}
}

// On a host with a server, the list is the server's.
func TestServersDatastoresAreNotOurs(t *testing.T) {
	h, _, _ := newServerHost(t, fixture(t, "ds-basic"))
	config := h.config()
	for _, args := range [][]string{{"add", "other", fixture(t, "ds-split")}, {"remove", tank}} {
		got := h.run(append([]string{"datastore"}, args...)...)
		got.want(t, 1)
		got.says(t, "managed by PBS")
	}
	if now := h.config(); now != config {
		t.Errorf("datastore.cfg changed to %q", now)
	}
	if got := h.datastores(); len(got) != 1 {
		t.Errorf("got the datastores %q, want the server's", got)
	}
}
