package maint

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

const nobody = 65534

// lockAs has a process of a user's hold a lock that another process, which has ended,
// took on the same descriptor.
func lockAs(t *testing.T, uid uint32, path, how string) procfs.Process {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sh", "-c", "flock "+how+" 3 && echo ready && exec sleep 1000")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("said %q, %v", line, err)
	}
	p, _ := procfs.LookProcess(cmd.Process.Pid)
	return p
}

func TestWhoHoldsALock(t *testing.T) {
	for _, how := range []string{"-s", "-x"} {
		for uid, root := range map[uint32]bool{0: true, nobody: false} {
			path := filepath.Join(t.TempDir(), "lock")
			p := lockAs(t, uid, path, how)
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the process that has the lock is found", func() bool {
				held, err := statefile.FlockHolders(st)
				return err == nil && len(held) == 1 && held[0].PID == p.PID && held[0].Root == root
			})
		}
	}
}

func TestRootTakesItsLockFromUsers(t *testing.T) {
	for _, how := range []string{"-s", "-x"} {
		p := newPlace(t)
		lockAs(t, nobody, p.host.ConfigLock(), how)
		synctest.Test(t, func(t *testing.T) {
			p.setMode(t, cfg.Offline, SetOptions{})
			p.clearMode(t)
		})
	}
	p := newPlace(t)
	lockAs(t, nobody, p.host.ConfigLock(), "-s")
	lockAs(t, 0, p.host.ConfigLock(), "-s")
	synctest.Test(t, func(t *testing.T) {
		err := SetMode(t.Context(), p.host, testStore, cfg.Offline, SetOptions{})
		if !errors.Is(err, statefile.ErrLocked) {
			t.Errorf("a lock that root has, too: got %v", err)
		}
	})
}

// Root's config lock is replaced while a user registers under it: the user does it
// again under the new one.
func TestRegistersAgainUnderAReplacedLock(t *testing.T) {
	user, _, p := userPlace(t)
	p.write(t, "root/datastore.cfg", plainConfig)
	p.write(t, "root/.datastore.lck", "")
	l := &fileLedger{host: user, store: testStore, modes: modes.NewSource(user, testStore, "", false)}
	t.Cleanup(l.close)
	rounds, granted := 0, 0
	plan := func(cfg.Mode) (opsfile.Counts, bool) {
		if rounds++; rounds == 1 {
			p.write(t, "root/.datastore.lck", "") // another file
		}
		return opsfile.Counts{Read: 1}, true
	}
	if err := l.register(t.Context(), plan, func(cfg.Mode, *opsfile.Counts) { granted++ }); err != nil {
		t.Fatal(err)
	}
	if rounds != 2 || granted != 1 {
		t.Errorf("%d rounds, %d grants", rounds, granted)
	}
	if err := l.update(t.Context(), opsfile.Counts{}); err != nil {
		t.Error(err)
	}
}
