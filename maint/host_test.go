package maint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/opsfile"
)

func env(vars ...string) func(string) string {
	return func(name string) string {
		for _, v := range vars {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestPlaces(t *testing.T) {
	if hosts.Exists(hosts.ServerConfigDir) {
		t.Skip("this host has a PBS; the table is for one without")
	}
	tests := []struct {
		name              string
		opts              hosts.HostOptions
		configs, run, own string // configs separated by spaces
	}{
		{"root", hosts.HostOptions{Getenv: env()}, "/etc/pbsfs", "/run/pbsfs", "/run/pbsfs"},
		{
			"user",
			hosts.HostOptions{UID: 1000, Getenv: env("HOME=/home/u", "XDG_RUNTIME_DIR=/run/user/1000")},
			"/home/u/.config/pbsfs /etc/pbsfs", "/run/user/1000/pbsfs", "/run/user/1000/pbsfs",
		},
		{
			"user with XDG",
			hosts.HostOptions{UID: 1000, Getenv: env("HOME=/home/u", "XDG_CONFIG_HOME=/c", "XDG_RUNTIME_DIR=/r")},
			"/c/pbsfs /etc/pbsfs", "/r/pbsfs", "/r/pbsfs",
		},
		{"variables", hosts.HostOptions{UID: 1000, Getenv: env("PBSFS_CONFIG_DIR=/a", "PBSFS_RUN_DIR=/b/")}, "/a", "/b", "/b"},
		{"flags win", hosts.HostOptions{ConfigDir: "/f", RunDir: "/g", Getenv: env("PBSFS_CONFIG_DIR=/a", "PBSFS_RUN_DIR=/b")}, "/f", "/g", "/g"},
	}
	for _, tt := range tests {
		h, err := hosts.NewHost(tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var dirs []string
		for _, f := range h.ConfigFiles() {
			dirs = append(dirs, filepath.Dir(f))
		}
		if got := strings.Join(dirs, " "); got != tt.configs || h.RunDir() != tt.run || h.OwnRunDir() != tt.own || h.IsPBS() {
			t.Errorf("%s: got %q, %q, %q, PBS %v", tt.name, got, h.RunDir(), h.OwnRunDir(), h.IsPBS())
		}
	}
	if _, err := hosts.NewHost(hosts.HostOptions{UID: 1000, Getenv: env("HOME=/home/u")}); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("no run directory: got %v", err)
	}
}

// userPlace is an ordinary user's host: the own places are p's, and root's are
// below dir.
func userPlace(t *testing.T) (user, root hosts.Host, p place) {
	t.Helper()
	p = newPlace(t)
	p.write(t, "root/datastore.cfg", "")
	u, r := p.host.Layout(), p.host.Layout()
	u.Configs = []hosts.ConfigPlace{p.host.Configs()[0], {Dir: filepath.Join(p.dir, "root"), Shared: true}}
	u.RunDir = filepath.Join(p.dir, "users/1000/pbsfs")
	u.UID = 1000
	r.Configs = []hosts.ConfigPlace{{Dir: filepath.Join(p.dir, "root")}}
	r.UsersRun = filepath.Join(p.dir, "users/*/pbsfs")
	return u.Host(), r.Host(), p
}

func TestUsersObeyRootAndRootCountsUsers(t *testing.T) {
	user, root, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	ops := p.operations(t, func(o *Options) { o.Host = user; o.Linger = -1 })
	g := begin(t, ops, cfg.Read) // root has no lock file yet
	ctx := t.Context()
	if err := SetMode(ctx, root, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, ErrConflict) {
		t.Errorf("root, while the user reads: %v", err)
	}
	g.Release()
	if err := SetMode(ctx, root, testStore, cfg.Offline, SetOptions{Wait: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := ops.Begin(ctx, cfg.Read); !errors.Is(err, cfg.ErrOffline) {
		t.Errorf("the user, in root's offline: %v", err)
	}
	if err := ClearMode(ctx, user, testStore, SetOptions{}); err != nil {
		t.Errorf("clearing the own, absent mode: %v", err)
	}
	if _, err := ops.Begin(ctx, cfg.Read); !errors.Is(err, cfg.ErrOffline) {
		t.Errorf("the user cleared root's mode: %v", err)
	}
	if err := ClearMode(ctx, root, testStore, SetOptions{}); err != nil {
		t.Fatal(err)
	}
	begin(t, ops, cfg.Read)
}

func TestUserCannotChangeRootsDatastores(t *testing.T) {
	user, _, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	p.writeConfig(t, "")
	if err := SetMode(t.Context(), user, testStore, cfg.Offline, SetOptions{}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// A lock file of root's that appears while a user registers must be taken too.
func TestLockThatAppearsIsTaken(t *testing.T) {
	user, root, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	l := &fileLedger{host: user, store: testStore, modes: modes.NewSource(user, testStore, "", false)}
	rounds := 0
	plan := func(cfg.Mode) (opsfile.Counts, bool) {
		if rounds++; rounds == 1 {
			p.write(t, "root/.datastore.lck", "")
		}
		return opsfile.Counts{Read: 1}, true
	}
	granted := 0
	if err := l.register(t.Context(), plan, func(cfg.Mode, *opsfile.Counts) { granted++ }); err != nil {
		t.Fatal(err)
	}
	if rounds != 2 || granted != 1 {
		t.Errorf("%d rounds, %d grants", rounds, granted)
	}
	if got, err := Sum(root, testStore); err != nil || got.Read != 1 {
		t.Errorf("root sees %v, %v", got, err)
	}
	if err := l.update(t.Context(), opsfile.Counts{}); err != nil {
		t.Error(err)
	}
}

func TestStoreNames(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\x00b", "tank.lock", strings.Repeat("x", 300)} {
		if _, err := NewOperations(Options{Store: name, Host: p.host}); err == nil {
			t.Errorf("store name %q was taken", name)
		}
		if _, err := Sum(p.host, name); err == nil {
			t.Errorf("Sum of %q succeeded", name)
		}
	}
	if _, err := NewOperations(Options{Store: "x"}); err == nil {
		t.Error("the zero Host was taken")
	}
}

func TestCheckTracking(t *testing.T) {
	p := newPlace(t)
	if err := CheckTracking(t.Context(), p.host, testStore); err != nil {
		t.Error(err)
	}
	p.write(t, "blocked", "")
	blocked := p.host.Layout()
	blocked.RunDir = filepath.Join(p.dir, "blocked")
	if err := CheckTracking(t.Context(), blocked.Host(), testStore); !errors.Is(err, ErrUncounted) {
		t.Errorf("run directory that is a file: %v", err)
	}
}
