package fs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// needFUSE skips a test that mounts where that cannot be done.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	_ = f.Close()
}

// run runs a program on the mount, which this process must not touch itself,
// and returns what it says to either side.
func run(t testing.TB, name string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out, err strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &out, &err
	runErr := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q hangs", name, args)
	}
	return out.String(), err.String(), runErr == nil
}

// noOperations waits until nothing is active: what is being loaded ahead of a
// reader that has stopped is loaded to its end.
func noOperations(t testing.TB, ref *store.Lookup) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ref.Operations().Total() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d operations after the last handle was closed", ref.Operations().Total())
		}
	}
}

func mount(t testing.TB, m *mounted, opts Options) (*Mount, string) {
	t.Helper()
	needFUSE(t)
	where := t.TempDir()
	opts.UID, opts.GID, opts.Umask = NoReplacement, NoReplacement, NoReplacement
	mnt, err := New(m.ref, where, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if left, err := mnt.Stop(ctx); err != nil || len(left) != 0 {
			t.Errorf("Stop: %v, left open: %v", err, left)
		}
		if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), where) {
			t.Errorf("mount is left on %s, %v", where, err)
		}
		noOperations(t, m.ref)
	})
	return mnt, where
}

// With one processor go-fuse and the runtime get into each other's way where
// they ever do.
func TestMountWithOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	text := strings.Repeat("0123456789", 50_000)
	m := newDatastore(t, storetest.Dir("",
		storetest.Dir("dir", storetest.File("big", text), storetest.Symlink("link", "big")), storetest.File("empty", ""),
	), func(sn *storetest.Snapshot) {
		sn.Blob("a.conf.blob", []byte("conf"))
		sn.Fixed("disk.img.fidx", 4096, []byte(text))
	})
	_, where := mount(t, m, Options{})
	for path, want := range map[string]string{
		"": "host\n", "host/alpha": noon + "\nlatest\n", m.dir: "a.conf\ndisk.img\ndisk.img.d\nindex.json\nroot.pxar\n",
		m.dir + "/root.pxar": "dir\nempty\n", "host/alpha/latest/root.pxar/dir": "big\nlink\n",
	} {
		if out, msg, ok := run(t, "ls", "-1", filepath.Join(where, path)+"/"); !ok || out != want {
			t.Errorf("ls %s = %q, %s, want %q", path, out, msg, want)
		}
	}
	for path, want := range map[string]string{"root.pxar/dir/big": text, "root.pxar/dir/link": text, "root.pxar/empty": "", "a.conf": "conf", "disk.img": text} {
		if out, msg, ok := run(t, "cat", filepath.Join(where, m.dir, path)); !ok || out != want {
			t.Errorf("cat %s: %d bytes, %s, want %d", path, len(out), msg, len(want))
		}
	}
	if _, msg, ok := run(t, "touch", filepath.Join(where, m.dir, "new")); ok || !strings.Contains(msg, "Read-only file system") {
		t.Errorf("touch: %q, want it to be refused", msg)
	}
	if _, msg, ok := run(t, "cat", filepath.Join(where, "none")); ok || !strings.Contains(msg, "No such file") {
		t.Errorf("cat none: %q", msg)
	}
}

// What lies in the datastore but is no part of the tree does not exist, also
// when it has a name that something could have.
func TestStrangeFilesDoNotExist(t *testing.T) {
	m := newDatastore(t, storetest.Dir(""), nil)
	m.Write("host/file", nil)
	m.Write("host/alpha/2023-11-15T00:00:00Z", nil)
	_, where := mount(t, m, Options{})
	for _, path := range []string{"host/file", "host/alpha/2023-11-15T00:00:00Z", ".chunks", "vm"} {
		if _, msg, ok := run(t, "stat", filepath.Join(where, path)); ok || !strings.Contains(msg, "No such file or directory") {
			t.Errorf("stat %s: %q, want that it does not exist", path, msg)
		}
	}
}

// A directory with a damaged entry shows the others, and ends with an error.
func TestDamagedListingEndsWithAnError(t *testing.T) {
	spoiled := storetest.File("spoiled", "")
	spoiled.Spoil = []byte(strings.Repeat("?", 80))
	m := newDatastore(t, storetest.Dir("", storetest.File("a", "1"), spoiled, storetest.File("z", "2")), nil)
	var log logged
	mnt, where := mount(t, m, Options{Log: log.logger()})
	for range 2 {
		out, msg, ok := run(t, "find", filepath.Join(where, m.dir, "root.pxar"), "-mindepth", "1", "-printf", "%f\n")
		if ok || !strings.Contains(msg, "Input/output error") || !strings.Contains(out, "a\n") || !strings.Contains(out, "z\n") {
			t.Errorf("find: %q, %q, succeeded: %v, want a and z and an error", out, msg, ok)
		}
	}
	if n := log.lines("cannot be served"); n != 1 || len(mnt.Problems()) != 1 {
		t.Errorf("%d log lines and problems %v, want one", n, mnt.Problems())
	}
}

// Two files whose 128 bits are equal: the one that was there first keeps
// working, the other is refused, and nobody ever gets the other's bytes.
func TestCollision(t *testing.T) {
	needFUSE(t)
	m := newDatastore(t, storetest.Dir("", storetest.File("first", "bytes of the first"), storetest.File("second", "something else")), nil)
	var log logged
	fsys := newFilesystem(m.ref, ownership{-1, -1, -1}, log.logger())
	fsys.identify = func(n *tree.Node) gofs.StableAttr {
		a := stableAttr(n)
		if n.Type() == fuse.S_IFREG {
			a.Ino, a.Gen = 4711, 1
		}
		return a
	}
	where := t.TempDir()
	rootAttr := stableAttr(fsys.tree.Root())
	server, err := fuse.NewServer(gofs.NewNodeFS(fsys.newInode(fsys.tree.Root()), &gofs.Options{NullPermissions: true, RootStableAttr: &rootAttr}), where, &fuse.MountOptions{DirectMount: true})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	defer func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
	}()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(where, m.dir, "root.pxar/first"), filepath.Join(where, m.dir, "root.pxar/second")
	for range 3 {
		if out, msg, ok := run(t, "cat", first); !ok || out != "bytes of the first" {
			t.Errorf("cat first = %q, %s", out, msg)
		}
		if out, msg, ok := run(t, "cat", second); ok || out != "" || !strings.Contains(msg, "Input/output error") {
			t.Errorf("cat second = %q, %q, want an I/O error and no byte", out, msg)
		}
	}
	if n := log.lines("inode number of another file"); n != 1 {
		t.Errorf("%d log lines, want 1:\n%s", n, log.text.String())
	}
}

// Stop refuses new handles, waits for open ones, and cuts off what does not end.
func TestStopCutsOff(t *testing.T) {
	needFUSE(t)
	m := newDatastore(t, storetest.Dir("", storetest.File("file", "content")), nil)
	where := t.TempDir()
	mnt, err := New(m.ref, where, Options{UID: NoReplacement, GID: NoReplacement, Umask: NoReplacement})
	if err != nil {
		t.Fatal(err)
	}
	// A process that has the file open until we close its standard input.
	cmd := exec.Command("sh", "-c", `exec 3<"$1"; echo open; cat`, "sh", filepath.Join(where, m.dir, "root.pxar/file"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if n := m.ref.Operations().Read; n != 1 {
		t.Errorf("%d operations with one file open, want 1", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	left, err := mnt.Stop(ctx)
	if err != nil || len(left) != 1 || left[0].Path != m.dir+"/root.pxar/file" || left[0].Opener.PID == 0 {
		t.Errorf("Stop = %+v, %v, want the open file", left, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	<-mnt.Ended()
	noOperations(t, m.ref)
}

// What changes in the datastore shows within a moment, also in objects that the
// kernel has known all along.
func TestChangesShow(t *testing.T) {
	m := newDatastore(t, storetest.Dir(""), nil)
	m.Write("host/alpha/notes", []byte("old\n"))
	_, where := mount(t, m, Options{})
	group := filepath.Join(where, "host/alpha")
	says := func(name string, args ...string) string {
		out, _, _ := run(t, name, args...)
		return out
	}
	states := map[string]struct {
		args     []string
		old, new string
	}{
		"target of latest":  {[]string{"readlink", group + "/latest"}, noon + "\n", "2023-11-15T00:00:00Z\n"},
		"groups' files":     {[]string{"cat", group + "/notes"}, "old\n", "new and longer\n"},
		"size of the notes": {[]string{"stat", "-c", "%s", group + "/notes"}, "4\n", "15\n"},
		"files of a snapshot": {
			[]string{"ls", "-1", filepath.Join(where, m.dir)}, "index.json\nroot.pxar\n", "client.log\nindex.json\nroot.pxar\n",
		},
		"protection": {[]string{"getfattr", "--absolute-names", "--only-values", "-n", "user.pbs.protected", filepath.Join(where, m.dir)}, "", "yes"},
	}
	if _, err := exec.LookPath("getfattr"); err != nil {
		delete(states, "protection")
	}
	for what, s := range states {
		if got := says(s.args[0], s.args[1:]...); got != s.old {
			t.Errorf("%s: %q, want %q", what, got, s.old)
		}
	}
	// A process that keeps the kernel from forgetting.
	hold := exec.Command("cat")
	hold.Dir = filepath.Join(where, m.dir)
	in, err := hold.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hold.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = hold.Wait()
	}()
	next := m.Snapshot("host/alpha", "2023-11-15T00:00:00Z")
	next.Finish()
	m.Write("host/alpha/notes", []byte("new and longer\n"))
	m.Write(m.dir+"/client.log.blob", storetest.Blob([]byte("log"), nil))
	m.Write(m.dir+"/.protected", nil)
	for what, s := range states {
		got := ""
		for deadline := time.Now().Add(10 * time.Second); got != s.new && time.Now().Before(deadline); {
			got = says(s.args[0], s.args[1:]...)
		}
		if got != s.new {
			t.Errorf("%s: still %q, want %q", what, got, s.new)
		}
	}
}
