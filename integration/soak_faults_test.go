package integration

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// troubles are what may happen to a read of a file.
var troubles = []struct {
	name string
	// harmless: a reader notices nothing.
	harmless bool
	do       reply
}{
	{"nothing", true, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) { return read(data), 0 }},
	{"short reads", true, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		return read(data[:1+rand.IntN(len(data))]), 0
	}},
	{"slow reads", true, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
		return read(data), 0
	}},
	{"I/O errors", false, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		if rand.IntN(4) == 0 {
			return 0, syscall.EIO
		}
		return read(data), 0
	}},
	{"files that end early", false, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		if rand.IntN(4) == 0 {
			return 0, 0
		}
		return read(data), 0
	}},
	{"other bytes", false, func(_ string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		n := read(data)
		if n > 0 && rand.IntN(4) == 0 {
			data[rand.IntN(n)] ^= 1 << rand.IntN(8)
		}
		return n, 0
	}},
	{"all of it", false, func(path string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		n := read(data[:1+rand.IntN(len(data))])
		switch rand.IntN(20) {
		case 0:
			return 0, syscall.EIO
		case 1:
			return n / 2, 0
		case 2:
			clear(data[:n])
		}
		return n, 0
	}},
}

// Whatever the file system below a datastore does, a read gives right bytes or EIO; and when
// it is well again, nothing of that is remembered.
func TestFaultsFromBelow(t *testing.T) {
	needRoot(t)
	plain := mountAt(t, fixture(t, "ds-basic"))
	dir, files := copied(t, plain, alpha, vm100)
	plain.unmount()
	var now atomic.Int64 // which trouble there is
	var asked atomic.Int64
	store := below(t, fixture(t, "ds-basic"), func(path string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		asked.Add(1)
		return troubles[now.Load()].do(path, data, read)
	}, func() {})
	each := soakTime(t, 7) / time.Duration(len(troubles))
	for i, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			now.Store(0)
			// Each begins with nothing in memory.
			m := mountAt(t, store, "--cache-size", "16MiB", "--no-disk-cache")
			var victim []string
			if !trouble.harmless {
				victim = []string{""} // any file may be damaged
			}
			readers := startComparers(t, 4, m.dir, dir, files, victim...)
			now.Store(int64(i))
			before := asked.Load()
			time.Sleep(each)
			reads, failed := readers.end()
			t.Logf("%d reads below", asked.Load()-before)
			if !trouble.harmless && failed == 0 {
				t.Errorf("%d reads were equal and none failed: else this test cannot fail", reads)
			}
			now.Store(0)
			for _, file := range files[:min(len(files), 30)] {
				want, err := os.ReadFile(filepath.Join(dir, file))
				must(t, err)
				// A disk that has failed is asked again after a while.
				eventually(t, file+" being read again", func() error {
					got, err := os.ReadFile(m.path(file))
					if err == nil && !bytes.Equal(got, want) {
						t.Errorf("%s: wrong bytes", file)
					}
					return err
				})
			}
		})
	}
}

// A chunk that does not come keeps only those waiting who need it, and they can be
// interrupted.
func TestSlowChunkKeepsNobodyElse(t *testing.T) {
	store, g := behindGate(t, fixture(t, "ds-basic"))
	m := newTank(t, store)
	must(t, opens(m.path(conf)))
	g.close()
	defer g.open()
	waiting := m.host.start("cat", m.store, diskImage)
	reader := exec.Command("cat", m.path(diskImage))
	must(t, reader.Start())
	eventually(t, "both having to wait", func() error {
		if n := g.stopped(); n < 2 {
			return unlike("%d have", n)
		}
		return nil
	})
	must(t, opens(m.path(conf))) // from memory, or a blob
	for _, what := range []string{"", "host", alpha, vm100} {
		_, err := os.ReadDir(m.path(what))
		must(t, err)
	}
	must(t, reader.Process.Signal(syscall.SIGINT))
	interrupted := time.AfterFunc(patience, g.open) // else it would never end
	defer interrupted.Stop()
	if err := reader.Wait(); err == nil || g.opened() {
		t.Errorf("an interrupted reader ended with %v, before the chunk came: %v", err, !g.opened())
	}
	must(t, waiting.cmd.Process.Signal(syscall.SIGINT))
	waiting.end(1)
}

// smallDir mounts a small file system of its own on a directory of the host.
func smallDir(t *testing.T, dir string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// full takes all the room that is left in a directory, until mend gives it back.
func full(t *testing.T, dir string) (mend func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "full"))
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return func() { must(t, os.Remove(f.Name())) }
}

// A file whose size was not known, because it could not be decoded, has the right one in the
// moment in which it opens again.
func TestSizeIsRightAsSoonAsAFileOpens(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	path := filepath.Join(store, conf+".blob")
	right, err := os.ReadFile(path)
	must(t, err)
	wrong := bytes.Clone(right)
	wrong[len(wrong)-1] ^= 1
	must(t, os.WriteFile(path, wrong, 0o644))
	m := mountAt(t, store)
	info, err := os.Stat(m.path(conf)) // the kernel now knows a size
	must(t, err)
	if err := opens(m.path(conf)); !errors.Is(err, unix.EIO) {
		t.Errorf("a damaged blob: got %v, want EIO", err)
	}
	must(t, os.WriteFile(path, right, 0o644))
	f, err := os.Open(m.path(conf))
	must(t, err)
	defer f.Close()
	now, err := f.Stat()
	must(t, err)
	text, err := io.ReadAll(f)
	must(t, err)
	if now.Size() != int64(len(text)) || info.Size() == now.Size() {
		t.Errorf("while it was damaged, the size was %d; it is %d for %d bytes", info.Size(), now.Size(), len(text))
	}
}

// Without room for its state, nothing is open that is not counted, and what cannot be is told;
// without room for the cache, all is read. As soon as there is room, all goes on.
func TestNoRoomForTheState(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	run, cache := smallDir(t, h.runDir()), smallDir(t, filepath.Join(h.dir, "cache"))
	m := h.mount(fixture(t, "ds-basic"))
	mendRun, mendCache := full(t, run), full(t, cache)
	f, err := os.Open(m.path(conf))
	switch {
	case err == nil:
		if h.statusOf(m.store).reads() == 0 {
			t.Error("a file is open, and not counted")
		}
		must(t, f.Close())
	case !errors.Is(err, unix.EIO) || len(m.logLines("no space left")) == 0:
		t.Errorf("a file that cannot be counted: got %v, want EIO and a line in the log", err)
	}
	if got := h.run("cat", m.store, conf); got.code != 0 && (got.code != 1 || !strings.Contains(got.stderr, "no space left")) {
		t.Errorf("cat: got exit code %d, %s", got.code, got.stderr)
	}
	other := h.unmounted(copyFixture(t, "ds-basic"))
	if got := other.run(); got.code != 1 || !strings.Contains(got.stderr, "no space left") || !strings.Contains(got.stderr, run) {
		t.Errorf("another mount: got exit code %d, %q; want 1, and where there is no room", got.code, got.stderr)
	}
	mendRun()
	eventually(t, "reading again", func() error { return opens(m.path(conf)) })
	if _, err := os.ReadDir(m.path(alpha, "root.pxar")); err != nil {
		t.Errorf("without room for the cache: %v", err)
	}
	mendCache()
}

// Where the state may not be written, a mount is refused, and says which file it is.
func TestReadOnlyState(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	for _, dir := range []string{h.runDir(), filepath.Join(h.dir, "cache")} {
		smallDir(t, dir)
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	for _, got := range []result{h.unmounted(fixture(t, "ds-basic")).run(), h.run("cat", fixture(t, "ds-basic"), conf)} {
		got.want(t, 1)
		got.says(t, h.runDir(), "read-only file system")
	}
	must(t, unix.Mount("", h.runDir(), "", unix.MS_REMOUNT, ""))
	m := h.mount(fixture(t, "ds-basic")) // the cache is only a cache
	must(t, opens(m.path(conf)))
	if _, err := os.ReadDir(m.path(alpha, "root.pxar")); err != nil {
		t.Error(err)
	}
}

// A process that may open no more files says so, and goes on when it may.
func TestNoMoreDescriptors(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-basic"), "--no-disk-cache")
	must(t, opens(m.path(conf)))
	var was unix.Rlimit
	few := unix.Rlimit{Cur: uint64(len(m.process.descriptors(t))) - 2}
	must(t, unix.Prlimit(m.process.pid, unix.RLIMIT_NOFILE, nil, &was))
	few.Max = was.Max
	must(t, unix.Prlimit(m.process.pid, unix.RLIMIT_NOFILE, &few, nil))
	eventually(t, "a refusal", func() error {
		err := opens(m.path(vm100, "drive-scsi0.img"))
		if err == nil || len(m.logLines("too many open files")) == 0 {
			return unlike("got %v, and the log does not say why", err)
		}
		return nil
	})
	must(t, unix.Prlimit(m.process.pid, unix.RLIMIT_NOFILE, &was, nil))
	must(t, opens(m.path(vm100, "drive-scsi0.img")))
	if !m.process.alive() {
		t.Error("the process has ended")
	}
}

// memoryGroup makes a control group whose processes have so much memory, until the test ends.
func memoryGroup(t *testing.T, bytes int) (dir string) {
	t.Helper()
	needRoot(t)
	for _, version := range []struct{ at, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(version.at, "pbsfs-test-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { eventually(t, "the control group going", func() error { return unix.Rmdir(dir) }) })
		if err := os.WriteFile(filepath.Join(dir, version.limit), []byte(strconv.Itoa(bytes)), 0o600); err == nil {
			return dir
		}
	}
	t.Skip("there are no control groups of memory here")
	return ""
}

// With 256 MiB for all of it, a mount serves whatever is asked for at once.
func TestMountInLittleMemory(t *testing.T) {
	group := memoryGroup(t, 256<<20)
	plain := mountAt(t, fixture(t, "ds-basic"))
	dir, files := copied(t, plain, alpha, vm100, filepath.Dir(images[1]))
	plain.unmount()
	m := newHost(t).unmounted(fixture(t, "ds-basic"))
	// The default of the cache is a share of the memory that the group has.
	cmd := m.host.command("mount", m.store, m.dir, "--log", m.log)
	in := exec.Command("sh", append([]string{"-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group, cmd.Path}, cmd.Args[1:]...)...)
	in.Env, in.Dir = cmd.Env, cmd.Dir
	if out, err := in.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	m.process = m.findServer()
	readers := startComparers(t, 16, m.dir, dir, files)
	tool(t, "find", m.dir, "-xdev", "-ls")
	time.Sleep(soakTime(t, 2))
	readers.end()
	if !m.process.alive() {
		t.Error("the process has ended")
	}
	status, err := os.ReadFile(m.process.proc("status"))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") {
			t.Log(line)
		}
	}
}
