package fs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/pbsfs/pbsfs/store/storetest"
)

// A kernel that knows too much is made to forget, but not what is open; nobody
// notices.
func TestInodesAreBounded(t *testing.T) {
	const files, limit = 3000, 500
	root := storetest.Dir("")
	for d := range 30 {
		sub := storetest.Dir(fmt.Sprintf("dir-%02d", d))
		for i := range files / 30 {
			sub.Kids = append(sub.Kids, storetest.File(fmt.Sprintf("file-%03d", i), fmt.Sprint(d, i)))
		}
		root.Kids = append(root.Kids, sub)
	}
	m := newDatastore(t, root, nil)
	mnt, where := mount(t, m, Options{MaxInodes: limit})
	top := filepath.Join(where, m.dir, "root.pxar")
	held := filepath.Join(top, "dir-03", "file-007")
	hold := startHolder(t, held)
	before, _, ok := run(t, "find", top, "-ls")
	if !ok || strings.Count(before, "\n") < files {
		t.Fatalf("find: %v, %d lines", ok, strings.Count(before, "\n"))
	}
	for end := time.Now().Add(30 * time.Second); mnt.fsys.objects.count() > limit; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d objects are known, want at most %d", mnt.fsys.objects.count(), limit)
		}
	}
	if name := hold(); name != held {
		t.Errorf("what is open is called %q, want %q", name, held)
	}
	if after, _, ok := run(t, "find", top, "-ls"); !ok || after != before {
		t.Error("the tree looks different after the kernel has forgotten it")
	}
}

// The same by other means, for kernels that lack the ones above.
func TestFilesAreForgottenByName(t *testing.T) {
	root := storetest.Dir("")
	for i := range 200 {
		root.Kids = append(root.Kids, storetest.File(fmt.Sprintf("file-%03d", i), ""))
	}
	m := newDatastore(t, root, nil)
	mnt, where := mount(t, m, Options{})
	top := filepath.Join(where, m.dir, "root.pxar")
	if _, _, ok := run(t, "find", top, "-ls"); !ok {
		t.Fatal("find fails")
	}
	var nodes []*gofs.Inode
	var walk func(n *gofs.Inode)
	walk = func(n *gofs.Inode) {
		for _, c := range n.Children() {
			nodes = append(nodes, c)
			walk(c)
		}
	}
	walk(mnt.root.EmbeddedInode())
	if len(nodes) < 200 {
		t.Fatalf("%d objects are known, want 200", len(nodes))
	}
	if err := forgetFiles(nodes); err != nil {
		t.Fatal(err)
	}
	nodes = nil
	for end := time.Now().Add(30 * time.Second); mnt.fsys.objects.count() > 50; time.Sleep(20 * time.Millisecond) {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatalf("%d objects are known", mnt.fsys.objects.count())
		}
	}
}

// startHolder has a process open a file. The function that is returned says what
// that process has open, reads it, and ends the process.
func startHolder(t *testing.T, path string) func() string {
	t.Helper()
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `exec 3<"$1"; echo open; read line; readlink /proc/$$/fd/3; cat <&3 >/dev/null`, "sh", path)
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if _, err := out.Read(buf); err != nil {
		t.Fatal(err)
	}
	return func() string {
		if _, err := feed.WriteString("\n"); err != nil {
			t.Error(err)
		}
		n, err := out.Read(buf)
		if err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		_, _ = in.Close(), feed.Close()
		return strings.TrimSpace(string(buf[:n]))
	}
}
