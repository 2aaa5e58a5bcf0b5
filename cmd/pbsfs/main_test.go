package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestMountOptions(t *testing.T) {
	plain := mountFlags{uid: -1, gid: -1, umask: -1}
	with := func(change func(*mountFlags)) *mountFlags {
		m := plain
		change(&m)
		return &m
	}
	for _, c := range []struct {
		lists []string
		want  *mountFlags // nil: refused
	}{
		{nil, &plain},
		{[]string{""}, &plain},
		{[]string{"ro,nosuid,nodev,defaults,noauto,user,_netdev,relatime"}, &plain},
		{[]string{"x-systemd.automount,x-gvfs-show,comment=a b,X-mount.mkdir,user=joe"}, &plain},
		{[]string{"allow_other"}, with(func(m *mountFlags) { m.allowOther = true })},
		{[]string{"nonempty"}, with(func(m *mountFlags) { m.nonempty = true })},
		{[]string{"noexec,ro"}, with(func(m *mountFlags) { m.noexec = true })},
		{[]string{"uid=1000", "gid=100,umask=027"}, with(func(m *mountFlags) { m.uid, m.gid, m.umask = 1000, 100, 0o27 })},
		{[]string{"uid=0,uid=5"}, with(func(m *mountFlags) { m.uid = 5 })},
		{[]string{"uid=4294967294"}, with(func(m *mountFlags) { m.uid = 4294967294 })},
		{[]string{"uid=4294967295"}, nil},
		{[]string{"umask=0"}, with(func(m *mountFlags) { m.umask = 0 })},
		{[]string{"umask=777"}, with(func(m *mountFlags) { m.umask = 0o777 })},
		{[]string{"umask=1000"}, nil},
		{[]string{"umask=8"}, nil},
		{[]string{"umask=-1"}, nil},
		{[]string{"umask="}, nil},
		{[]string{"umask"}, nil},
		{[]string{"uid=4294967296"}, nil},
		{[]string{"uid=-1"}, nil},
		{[]string{"uid=root"}, nil},
		{[]string{"uid="}, nil},
		{[]string{"uid"}, nil},
		{[]string{"gid=1x"}, nil},
		{[]string{"gid=0x1"}, nil},
		{[]string{"rw"}, nil},
		{[]string{"suid"}, nil},
		{[]string{"dev"}, nil},
		{[]string{"remount,ro"}, nil},
		{[]string{"allow_root"}, nil},
		{[]string{"entry_timeout=1"}, nil},
		{[]string{"auto_unmount"}, nil},
		{[]string{"ro=1"}, nil},
		{[]string{"allow_other=1"}, nil},
		{[]string{"unknown"}, nil},
		{[]string{" ro"}, nil},
		{[]string{"RO"}, nil},
	} {
		var got mountFlags
		err := got.parse(c.lists, newMountCommand(&app{}).Flags())
		switch {
		case c.want == nil && exitCode(err) != exitUsage:
			t.Errorf("-o %q: %+v, %v, want a usage error", c.lists, got, err)
		case c.want != nil && (err != nil || !reflect.DeepEqual(got, *c.want)):
			t.Errorf("-o %q: %+v, %v, want %+v", c.lists, got, err, *c.want)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "4096": 4096, "1B": 1, "1k": 1 << 10, "1K": 1 << 10, "1KB": 1 << 10, "1KiB": 1 << 10, "1kib": 1 << 10, "512MiB": 512 << 20,
		"512 MiB": 512 << 20, "2TiB": 2 << 40, "8388607TiB": 8388607 << 40, "9223372036854775807": 1<<63 - 1, "007": 7,
		"": -1, "MiB": -1, "-1": -1, "1.5G": -1, "1MM": -1, "1iB": -1, "1Mi": -1, "1KBB": -1, "1P": -1, "1 2": -1, "0x10": -1, "1e3": -1,
		"8388608TiB": -1, "9223372036854775808": -1, "1BK": -1, "1 K B": -1, " 3G ": -1,
	} {
		var b byteSize = 42
		err := b.Set(text)
		switch {
		case want < 0 && err == nil:
			t.Errorf("%q = %d, want an error", text, b)
		case want >= 0 && (err != nil || int64(b) != want):
			t.Errorf("%q = %d, %v, want %d", text, b, err, want)
		case want < 0 && b != 42:
			t.Errorf("%q changed the value to %d although it is an error", text, b)
		}
	}
	for n, want := range map[byteSize]string{0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1536: "1536", 512 << 20: "512MiB", 1 << 40: "1TiB", 1 << 50: "1024TiB"} {
		if got := n.String(); got != want {
			t.Errorf("String of %d = %q, want %q", int64(n), got, want)
		}
	}
}

func FuzzByteSize(f *testing.F) {
	for _, s := range []string{"", "0", "512MiB", "1 k", "9223372036854775807", "8388608T", "1iB", "B", "-1K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var a, b byteSize
		if a.Set(s) != nil {
			return
		}
		if a < 0 {
			t.Fatalf("%q is %d", s, a)
		}
		if err := b.Set(a.String()); err != nil || a != b {
			t.Fatalf("%q is %d, written %s, read again %d, %v", s, a, a.String(), b, err)
		}
	})
}

func TestExitCodes(t *testing.T) {
	damage := &store.Error{Off: -1, Err: corrupt.New("wrong")}
	for what, c := range map[string]struct {
		err  error
		want int
	}{
		"nothing":             {nil, exitDone},
		"anything":            {errors.New("x"), exitFailed},
		"not there":           {fs.ErrNotExist, exitFailed},
		"no datastore":        {store.ErrNotDatastore, exitFailed},
		"interrupted":         {context.Canceled, exitFailed},
		"usage":               {usage.Errorf("x"), exitUsage},
		"unknown command":     {errors.New(`unknown command "x" for "pbsfs"`), exitUsage},
		"in use":              {mountpoint.ErrActive, exitActive},
		"operations":          {maint.ErrActive, exitActive},
		"conflict":            {&maint.ConflictError{}, exitActive},
		"in use, interrupted": {&status.InUse{Conflict: &maint.ConflictError{Err: context.Canceled}}, exitActive},
		"in use, by a mode":   {&status.InUse{Conflict: &maint.ConflictError{Err: &cfg.ModeError{}}}, exitActive},
		"offline":             {&cfg.ModeError{Type: cfg.Offline}, exitMode},
		"read-only":           {&cfg.ModeError{Type: cfg.ReadOnly}, exitMode},
		"gone":                {store.ErrGone, exitMode},
		"key":                 {&store.Error{Off: -1, Err: &store.KeyError{}}, exitKey},
		"damage":              {damage, exitDamaged},
		"a process of ours":   {&exitError{code: 4, text: "x"}, exitMode},
		"damage in our child": {&exitError{code: 1}, exitFailed},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
		if c.err == nil || what == "unknown command" {
			continue
		}
		if got := exitCode(fmt.Errorf("doing: %w", errors.Join(errors.New("y"), c.err))); got != c.want {
			t.Errorf("%s, wrapped: %d, want %d", what, got, c.want)
		}
	}
	// The numbers themselves are promised.
	if codes := [...]int{exitDone, exitFailed, exitUsage, exitActive, exitMode, exitDamaged, exitKey}; codes != [...]int{0, 1, 2, 3, 4, 5, 6} {
		t.Errorf("exit codes are %v", codes)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"one": "one", "one\n": "one", "one\ntwo": "one; two", "one\n  two\n  three": "one\n  two\n  three",
		"one\ntwo\n  three": "one; two\n  three", "": "", "\n\none\n": "one",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestPathName(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/tank": "tank-", "/srv/my store": "my_store-", "/srv/.hidden": "hidden-", "/srv/--x": "x-", "/": "_-", "/srv/größe": "gr__e-",
		"/srv/abcdefghijklmnopqrstuvwxyz": "abcdefghijklmnopqrst-", "/srv/a.b_c-d": "a.b_c-d-",
	} {
		got := modes.PathName(path)
		if !strings.HasPrefix(got, want) || len(got) != len(want)+8 {
			t.Errorf("maint.PathName(%s) = %s, want %s and 8 digits", path, got, want)
		}
		if got != modes.PathName(path) || got == modes.PathName(path+"x/"+filepath.Base(path)) {
			t.Errorf("name of %s is not that of the path alone", path)
		}
	}
}

// newApp returns the world around a command: a host of the test's own.
func newApp(t *testing.T, config string) (a *app, stdout, stderr *strings.Builder) {
	t.Helper()
	host := storetest.Host(t, config)
	stdout, stderr = &strings.Builder{}, &strings.Builder{}
	return &app{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		getenv: func(name string) string {
			return map[string]string{"PBSFS_CONFIG_DIR": host.ConfigDir(), "PBSFS_RUN_DIR": host.RunDir()}[name]
		},
	}, stdout, stderr
}

func (a *app) run(t *testing.T, args ...string) int {
	t.Helper()
	cmd := newRootCommand(a)
	cmd.SetArgs(args)
	return a.report(cmd.ExecuteContext(t.Context()))
}

func TestCommandsThatRead(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", "2023-11-14T12:00:00Z")
	file := storetest.File("file", "content\n")
	sn.Pxar("root.pxar.didx", storetest.Dir("", file, storetest.Symlink("link", "file"), storetest.Dir("dir")))
	sn.Blob("bad.conf.blob", []byte("x"))
	sn.Finish()
	sn.Key = storetest.NewKey(t, 1)
	sn.Blob("secret.conf.blob", []byte("x"))
	sn.Finish()
	s.Remove(sn.Dir + "/bad.conf.blob")
	config := "datastore: tank\n\tpath " + s.Dir + "\n"
	root := "host/alpha/latest/root.pxar"
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string // in it
	}{
		{[]string{"ls", "tank"}, 0, "host\n", ""},
		{[]string{"ls", s.Dir, root}, 0, "file\nlink\ndir\n", ""},
		{[]string{"ls", "tank", root + "/file"}, 0, "file\n", ""},
		{[]string{"ls", "-l", "tank", root + "/link"}, 0, "lrwxrwxrwx   1     0     0            4 1970-01-01T00:00:00Z link -> file\n", ""},
		{[]string{"cat", "tank", root + "/file", root + "/link"}, 0, "content\ncontent\n", ""},
		{[]string{"cat", "tank", root + "/dir"}, 1, "", "is a directory"},
		{[]string{"cat", "tank", root + "/none"}, 1, "", root + "/none"},
		{[]string{"cat", "tank", "host/alpha/latest/bad.conf"}, 5, "", "missing from the snapshot"},
		{[]string{"cat", "tank", "host/alpha/latest/secret.conf"}, 6, "", "key"},
		{[]string{"ls", "none"}, 1, "", "no datastore none"},
		{[]string{"ls", "./none"}, 1, "", "no such directory"},
		{[]string{"ls", t.TempDir() + "/"}, 1, "", "not a datastore"},
		{[]string{"ls", ""}, 2, "", "empty"},
		{[]string{"ls"}, 2, "", "usage:"},
		{[]string{"cat", "tank"}, 2, "", "usage:"},
		{[]string{"ls", "--what", "tank"}, 2, "", "unknown flag"},
		{[]string{"ls", "--cache-size", "x", "tank"}, 2, "", "512MiB"},
		{[]string{"frobnicate"}, 2, "", "unknown command"},
		{nil, 2, "", "no command given"},
		{[]string{"mount", "tank"}, 2, "", "usage:"},
		{[]string{"mount", "-o", "rw", "tank", "/nowhere"}, 2, "", "read-only"},
		{[]string{"mount", "-f", "tank", "/no/such/place"}, 1, "", "no such directory to mount on"},
		{[]string{"mount", "-f", "tank", s.Dir}, 1, "", "on itself"},
	} {
		a, stdout, stderr := newApp(t, config)
		code := a.run(t, c.args...)
		if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("pbsfs %q: exit %d, %q, %q, want %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
		if text := stderr.String(); (code != 0) != strings.HasPrefix(text, "pbsfs: ") || strings.Count(text, "\n") > 1 {
			t.Errorf("pbsfs %q: message %q is not one line", c.args, text)
		}
	}
}

func TestOfflineIsExit4(t *testing.T) {
	s := storetest.New(t)
	a, _, stderr := newApp(t, "datastore: tank\n\tpath "+s.Dir+"\n\tmaintenance-mode type=offline,message=rebuilding\n")
	if code := a.run(t, "ls", "tank"); code != exitMode || !strings.Contains(stderr.String(), "rebuilding") {
		t.Errorf("exit %d, %q, want 4 and the message", code, stderr)
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o120777: "lrwxrwxrwx", 0o010000: "p---------", 0o104755: "-rwsr-xr-x",
		0o102644: "-rw-r-Sr--", 0o041777: "drwxrwxrwt", 0o041776: "drwxrwxrwT", 0o020600: "crw-------", 0o060660: "brw-rw----", 0o140777: "srwxrwxrwx", 0: "?---------",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("modeString(%o) = %s, want %s", mode, got, want)
		}
	}
}

// A command that was allowed to go on for long still has time to return when it is done.
func TestMomentBeginsAnewAfterAPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m moment
		back := m.allow(0)
		over := m.over()
		time.Sleep(time.Hour)
		select {
		case <-over:
			t.Fatal("over while the command was allowed to go on")
		default:
		}
		back()
		done := time.Now()
		<-over
		if took := time.Since(done); took < promptly-momentStep || took > promptly+2*momentStep {
			t.Errorf("over %s after the end of the permission, want %s", took, promptly)
		}
	})
}
