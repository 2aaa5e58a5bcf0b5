package maint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/pbs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

func TestSetModeIsRefusedWhileOthersAreActive(t *testing.T) {
	tests := []struct {
		op      string
		mode    cfg.ModeType
		refused bool
	}{
		{"read", cfg.Offline, true}, {"write", cfg.Offline, true}, {"read", cfg.ReadOnly, false}, {"write", cfg.ReadOnly, true},
	}
	for _, tt := range tests {
		t.Run(tt.op+" "+string(tt.mode), func(t *testing.T) {
			p := newPlace(t)
			holder := startOther(t, "hold", p.dir, testStore, tt.op)
			err := SetMode(t.Context(), p.host, testStore, tt.mode, SetOptions{Wait: 50 * time.Millisecond})
			if !tt.refused {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var conflict *ConflictError
			if !errors.As(err, &conflict) || !errors.Is(err, ErrConflict) {
				t.Fatalf("got %v", err)
			}
			if len(conflict.Processes) != 1 || conflict.Processes[0].PID != holder.pid() || conflict.Set {
				t.Errorf("got %+v", conflict)
			}
			if got := p.config(t); got != plainConfig {
				t.Errorf("datastore.cfg changed: %q", got)
			}
			go func() { time.Sleep(20 * time.Millisecond); holder.end() }()
			p.setMode(t, tt.mode, SetOptions{Wait: 10 * time.Second, Message: "now"})
			want := strings.Replace(plainConfig, "a test\n", "a test\n\tmaintenance-mode "+string(tt.mode)+",message=now\n", 1)
			if got := p.config(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	p := newPlace(t)
	holder := startOther(t, "hold", p.dir, testStore, "read")
	p.setMode(t, cfg.Offline, SetOptions{Drain: true})
	// That the mode stands already does not make the datastore idle.
	var conflict *ConflictError
	err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{Message: "really"})
	if !errors.As(err, &conflict) || !conflict.Set || conflict.Processes[0].PID != holder.pid() {
		t.Errorf("setting the mode that stands, with an operation active: got %v", err)
	}
	p.setMode(t, cfg.Offline, SetOptions{Message: "really", Drain: true})
	if m, err := ReadMode(p.host, testStore); err != nil || m.Message != "really" {
		t.Errorf("got %+v, %v", m, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = WaitIdle(ctx, p.host, testStore, cfg.Offline, nil)
	if !errors.As(err, &conflict) || !conflict.Set || !errors.Is(err, context.DeadlineExceeded) || conflict.Processes[0].PID != holder.pid() {
		t.Errorf("got %v", err)
	}
	shown := 0
	go holder.end()
	if err := WaitIdle(t.Context(), p.host, testStore, cfg.Offline, func([]ProcessCount) { shown++ }); err != nil {
		t.Error(err)
	}
	if shown > 1 {
		t.Errorf("progress was told %d times of the same", shown)
	}
}

// Who waits for a mode to take effect is told when it has gone, or is another one.
func TestWaitForAModeThatWasTakenBack(t *testing.T) {
	for name, change := range map[string]func(p place){
		"cleared": func(p place) { p.clearMode(t) },
		"changed": func(p place) { p.setMode(t, cfg.ReadOnly, SetOptions{}) },
		"replaced": func(p place) {
			p.writeConfig(t, strings.Replace(plainConfig, "\tcomment", "\tmaintenance-mode delete\n\tcomment", 1))
		},
	} {
		p := newPlace(t)
		holder := startOther(t, "hold", p.dir, testStore, "read")
		p.setMode(t, cfg.Offline, SetOptions{Drain: true})
		waited := make(chan error, 1)
		waits := make(chan struct{}, 1)
		go func() {
			waited <- WaitIdle(t.Context(), p.host, testStore, cfg.Offline, func([]ProcessCount) { waits <- struct{}{} })
		}()
		<-waits
		change(p)
		if err := <-waited; !errors.Is(err, ErrTakenBack) {
			t.Errorf("%s: got %v", name, err)
		}
		holder.end()
		// Also where nobody is active any more.
		if err := WaitIdle(t.Context(), p.host, testStore, cfg.Offline, nil); !errors.Is(err, ErrTakenBack) {
			t.Errorf("%s, with nobody active: got %v", name, err)
		}
	}
}

func TestModesThatAreNotOurs(t *testing.T) {
	tests := []struct {
		property             string
		set, clear, forcedOK bool
	}{
		{"unmount", false, false, true},
		{"delete", false, false, false},
		{"s3-refresh", false, false, false},
		{"invented", false, false, false},
		{`unmount,message="`, false, false, false},
		{`offline,message=a, b`, true, true, true}, // our own, broken: repaired
		{"offline", true, true, true},
	}
	for _, tt := range tests {
		p := newPlace(t)
		text := strings.Replace(plainConfig, "\tcomment", "\tmaintenance-mode "+tt.property+"\n\tcomment", 1)
		ctx := t.Context()
		check := func(what string, ok bool, err error) {
			t.Helper()
			var refused *cfg.ModeError
			if ok != (err == nil) || !ok && !errors.As(err, &refused) {
				t.Errorf("%s under %q: got %v", what, tt.property, err)
			}
			if !ok && p.config(t) != text {
				t.Errorf("%s under %q changed datastore.cfg", what, tt.property)
			}
		}
		p.writeConfig(t, text)
		check("set", tt.set, SetMode(ctx, p.host, testStore, cfg.ReadOnly, SetOptions{Force: true}))
		p.writeConfig(t, text)
		check("clear", tt.clear, ClearMode(ctx, p.host, testStore, SetOptions{}))
		p.writeConfig(t, text)
		check("clear by force", tt.forcedOK, ClearMode(ctx, p.host, testStore, SetOptions{Force: true}))
	}
}

func TestSetModeOnBadInput(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	if err := SetMode(ctx, p.host, "nowhere", cfg.Offline, SetOptions{}); !errors.Is(err, cfg.ErrNotConfigured) {
		t.Errorf("unknown datastore: %v", err)
	}
	if err := ClearMode(ctx, p.host, "nowhere", SetOptions{}); !errors.Is(err, cfg.ErrNotConfigured) {
		t.Errorf("unknown datastore: %v", err)
	}
	for _, mode := range []cfg.ModeType{cfg.None, cfg.Delete, cfg.Unmount, "sleepy"} {
		if err := SetMode(ctx, p.host, testStore, mode, SetOptions{}); err == nil {
			t.Errorf("mode %q was set", mode)
		}
	}
	if err := SetMode(ctx, p.host, testStore, cfg.Offline, SetOptions{Message: "a\nb"}); !errors.Is(err, cfg.ErrBadMessage) {
		t.Errorf("control character: %v", err)
	}
	if err := SetMode(ctx, hosts.Host{}, testStore, cfg.Offline, SetOptions{}); err == nil {
		t.Error("the zero Host was used")
	}
	if got := p.config(t); got != plainConfig {
		t.Errorf("datastore.cfg changed: %q", got)
	}
}

func TestReplaceKeepsOwnerModeAndLink(t *testing.T) {
	p := newPlace(t)
	path, target := p.host.ConfigFiles()[0], filepath.Join(p.dir, "real.cfg")
	if err := os.Rename(path, target); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(target, 0o604); err != nil {
		t.Fatal(err)
	}
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 34
		if err := os.Chown(target, 0, gid); err != nil {
			t.Fatal(err)
		}
	}
	p.setMode(t, cfg.Offline, SetOptions{})
	st, err := os.Lstat(target)
	if err != nil {
		t.Fatal(err)
	}
	if own := statefile.StatOwner(st); st.Mode() != 0o604 || own.GID != gid {
		t.Errorf("got %v, group %d", st.Mode(), own.GID)
	}
	if !strings.Contains(p.config(t), "offline") {
		t.Error("not written through the link")
	}
	left, _ := filepath.Glob(filepath.Join(p.dir, "*", "*.tmp_*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// counterFile is PBS's config-versions with the datastore counter at n.
func counterFile(n uint64) string {
	b := make([]byte, pbs.GenerationSize)
	binary.BigEndian.PutUint64(b, pbs.GenerationMagic)
	binary.NativeEndian.PutUint64(b[pbs.GenerationOffset:], n)
	return string(b)
}

func TestPBSIsToldOfChanges(t *testing.T) {
	p, proxy, _ := newPBSPlace(t)
	const counter = "run/shmem/config-versions"
	p.write(t, counter, counterFile(41))
	l, err := net.Listen("unix", fmt.Sprintf("@%s/control-%d.sock", p.host.RunDir(), proxy.pid()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 9)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 200)
			n, _ := conn.Read(buf)
			lines <- string(buf[:n])
			io.WriteString(conn, "OK: null\n")
			conn.Close()
		}
	}()
	steps := []func(){
		func() { p.setMode(t, cfg.Offline, SetOptions{}) },
		func() { p.setMode(t, cfg.Offline, SetOptions{Message: "x"}) },
		func() { p.clearMode(t) },
	}
	for i, step := range steps {
		step()
		if got, want := p.read(t, counter), counterFile(uint64(42+i)); got != want {
			t.Errorf("step %d: the counter did not move by one", i)
		}
		if got, want := <-lines, `{"command":"update-datastore-cache","args":"tank"}`+"\n"; got != want {
			t.Errorf("step %d: socket got %q, want %q", i, got, want)
		}
	}
	p.clearMode(t) // nothing changes, so nothing is told
	if got := p.read(t, counter); got != counterFile(44) || len(lines) > 0 {
		t.Error("told of a change that was none")
	}
}

func TestForeignCounterFileIsLeftAlone(t *testing.T) {
	p, _, _ := newPBSPlace(t)
	for _, text := range []string{strings.Repeat("x", pbs.GenerationSize), "short"} {
		p.write(t, "run/shmem/config-versions", text)
		if err := pbs.BumpGeneration(p.host); err == nil {
			t.Errorf("%.9q was taken for PBS's counters", text)
		}
		if got := p.read(t, "run/shmem/config-versions"); got != text {
			t.Errorf("it is now %.9q", got)
		}
		// The mode is set all the same.
		p.setMode(t, cfg.Offline, SetOptions{})
		p.clearMode(t)
	}
}

func TestPBSOwnsItsDatastores(t *testing.T) {
	p, _, _ := newPBSPlace(t)
	if err := AddDatastore(t.Context(), p.host, cfg.Datastore{Name: "new", Path: "/new"}); !errors.Is(err, ErrPBSOwns) {
		t.Errorf("add: %v", err)
	}
	if err := RemoveDatastore(t.Context(), p.host, testStore); !errors.Is(err, ErrPBSOwns) {
		t.Errorf("remove: %v", err)
	}
}
