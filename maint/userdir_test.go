package maint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// userOf is root's host and the run directory of a user of it.
func userOf(t *testing.T) (root hosts.Host, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	_, root, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	dir = filepath.Join(p.dir, "users/1000/pbsfs")
	if err := os.MkdirAll(filepath.Join(dir, hosts.OperationsName), 0o755); err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Dir(dir))
	return root, dir
}

// give makes everything below dir the user's.
func give(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sleeperOf is a process of a user.
func sleeperOf(t *testing.T, uid uint32) procfs.Process {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, _ := procfs.LookProcess(cmd.Process.Pid)
	return p
}

func TestRubbishOfUsersHindersNobody(t *testing.T) {
	write := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for what, put := range map[string]func(path string) error{
		"garbage":     write("rubbish"),
		"empty":       write(""),
		"deep":        write(strings.Repeat("[", 100000)),
		"fifo":        mkfifo,
		"directory":   func(path string) error { return os.Mkdir(path, 0o755) },
		"link":        func(path string) error { return os.Symlink("/dev/zero", path) },
		"device":      func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"huge":        func(path string) error { return errors.Join(write("[")(path), os.Truncate(path, 1<<40)) },
		"dir is fifo": func(path string) error { return errors.Join(os.Remove(filepath.Dir(path)), mkfifo(filepath.Dir(path))) },
		"dir is link": func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.Symlink("/etc", filepath.Dir(path)))
		},
		"another mount": func(path string) error { return unix.Mount("none", filepath.Dir(path), "tmpfs", 0, "mode=777") },
	} {
		t.Run(what, func(t *testing.T) {
			root, dir := userOf(t)
			path := filepath.Join(dir, hosts.OperationsName, testStore)
			if err := put(path); err != nil {
				t.Skipf("cannot be made here: %v", err)
			}
			if what == "another mount" {
				t.Cleanup(func() { _ = unix.Unmount(filepath.Dir(path), unix.MNT_DETACH) })
				_ = write("[]")(path)
			}
			give(t, dir)
			tally, err := Count(root, testStore)
			if err != nil || len(tally.Processes) != 0 || len(tally.Problems) == 0 {
				t.Errorf("got %+v, %v, want nothing to be counted, and a complaint", tally, err)
			}
			if err := SetMode(t.Context(), root, testStore, cfg.Offline, SetOptions{}); err != nil {
				t.Errorf("root is kept from maintenance: %v", err)
			}
		})
	}
}

func TestUsersCountForTheirOwnProcesses(t *testing.T) {
	root, dir := userOf(t)
	theirs, other := sleeperOf(t, nobody), sleeperOf(t, nobody-1)
	stale := procfs.Process{PID: theirs.PID, StartTime: theirs.StartTime + 1}
	first, _ := procfs.LookProcess(1)
	for _, tt := range []struct {
		what     string
		entries  string
		read     int64
		problems int
	}{
		{"own", entryText(theirs, 2, 0), 2, 0},
		{"that has ended", entryText(stale, 2, 0), 0, 0},
		{"another user's", entryText(other, 2, 0), 0, 1},
		{"root's", entryText(first, 2, 0), 0, 1},
		{"own, and others'", entryText(first, 7, 0) + "," + entryText(theirs, 1, 0) + "," + entryText(other, 7, 0), 1, 1},
	} {
		path := filepath.Join(dir, hosts.OperationsName, testStore)
		if err := os.WriteFile(path, []byte("["+tt.entries+"]"), 0o600); err != nil {
			t.Fatal(err)
		}
		give(t, dir)
		tally, err := Count(root, testStore)
		var sum int64
		for _, p := range tally.Processes {
			sum += p.Read
		}
		if err != nil || sum != tt.read || len(tally.Problems) != tt.problems {
			t.Errorf("a process of %s: got %+v, %v", tt.what, tally, err)
		}
		for _, err := range tally.Problems {
			if !errors.Is(err, ErrUserFile) || !strings.Contains(err.Error(), path) {
				t.Errorf("a process of %s: complained %v", tt.what, err)
			}
		}
	}
}

// A file that is not the user's own says nothing in the user's name.
func TestUsersFilesAreTheirOwn(t *testing.T) {
	root, dir := userOf(t)
	p := sleeperOf(t, nobody)
	path := filepath.Join(dir, hosts.OperationsName, testStore)
	if err := os.WriteFile(path, []byte("["+entryText(p, 1, 0)+"]"), 0o644); err != nil {
		t.Fatal(err)
	}
	tally, err := Count(root, testStore)
	if err != nil || len(tally.Processes) != 0 || len(tally.Problems) != 1 || !strings.Contains(fmt.Sprint(tally.Problems), "belongs to user 0") {
		t.Errorf("got %+v, %v", tally, err)
	}
}

func TestNamesOfUsersAreBounded(t *testing.T) {
	_, dir := userOf(t)
	for i := range maxUserNames + 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := UserDir{base: filepath.Dir(dir), sub: "pbsfs"}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if names, err := o.Names("."); len(names) != maxUserNames || !errors.Is(err, ErrUserFile) {
		t.Errorf("got %d names, %v", len(names), err)
	}
	if names, err := o.Names("missing"); len(names) != 0 || err != nil {
		t.Errorf("a missing directory: %q, %v", names, err)
	}
	for _, name := range []string{"../../secret", "/etc/passwd", ".."} {
		if _, err := o.ReadFile(name); err == nil {
			t.Errorf("%q was read", name)
		}
	}
}
