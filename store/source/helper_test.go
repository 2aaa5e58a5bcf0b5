package source

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func mkdir(t testing.TB, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

func open(t testing.TB, dir string) *Tree {
	t.Helper()
	tree, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { tree.Close() })
	return tree
}

// archived is what a tree was written to.
type archived struct {
	meta, payload, catalog bytes.Buffer
	warnings               []string // path relative to the tree: what
	files, bytes           int64    // of progress
}

const archiveName = "root.pxar.didx"

// archive writes a tree in one of the forms; hook is called for each progress.
func archive(t testing.TB, dir string, split bool, opts Options, hook func()) *archived {
	t.Helper()
	tree := open(t, dir)
	a := new(archived)
	opts.Warn = func(path string, err error) {
		rel, inside := strings.CutPrefix(path, dir)
		if !inside {
			t.Errorf("warning about %q, which is not in %q", path, dir)
		}
		a.warnings = append(a.warnings, strings.TrimPrefix(rel, "/")+": "+err.Error())
	}
	opts.Progress = func(files, bytes int64) {
		a.files += files
		a.bytes += bytes
		if hook != nil {
			hook()
		}
	}
	if split {
		must(t, tree.Split(context.Background(), &a.meta, &a.payload, opts))
		return a
	}
	cat := catalog.NewEncoder(&a.catalog)
	must(t, tree.Unified(context.Background(), &a.meta, cat, archiveName, opts), cat.Close())
	return a
}

// both writes a tree in both forms, without warnings.
func both(t testing.TB, dir string, opts Options) []*archived {
	t.Helper()
	out := []*archived{archive(t, dir, false, opts, nil), archive(t, dir, true, opts, nil)}
	for _, a := range out {
		a.expectWarnings(t)
	}
	return out
}

// expectWarnings checks that there were these warnings, by how they begin.
func (a *archived) expectWarnings(t testing.TB, want ...string) {
	t.Helper()
	if !slices.EqualFunc(a.warnings, want, strings.HasPrefix) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(a.warnings, "\n"), strings.Join(want, "\n"))
	}
}

// object is what an archive has under one name.
type object struct {
	*pxar.Entry
	data string
}

// decode reads a whole archive: the paths in its order, "" first, and what is
// there.
func (a *archived) decode(t testing.TB) (order []string, objects map[string]object) {
	t.Helper()
	r := bytes.NewReader(a.meta.Bytes())
	p, err := pxar.Open(r, r.Size())
	must(t, err)
	content := a.meta.Bytes()
	if p.Split() {
		content = a.payload.Bytes()
		must(t, pxar.CheckPayloadStream(bytes.NewReader(content), int64(len(content))))
	}
	objects = make(map[string]object)
	var visit func(path string, e *pxar.Entry)
	visit = func(path string, e *pxar.Entry) {
		o := object{Entry: e}
		order = append(order, path)
		if e.Type() == pxar.TypeRegular {
			off, err := e.Payload.Resolve(bytes.NewReader(content), int64(len(content)))
			must(t, err)
			o.data = string(content[off : off+e.Payload.Size])
		}
		objects[path] = o
		if e.Type() != pxar.TypeDir {
			return
		}
		table, err := p.ReadTable(r, e.Dir)
		must(t, err, table.Err())
		for i := range table.Len() {
			c, err := table.Child(r, i)
			must(t, err)
			child, err := p.ReadEntry(r, c)
			must(t, err)
			visit(filepath.Join(path, c.Name), child)
		}
	}
	root, err := p.ReadRoot(r)
	must(t, err)
	visit("", root)
	return order, objects
}

// listed reads the catalog: what it has, by path.
func (a *archived) listed(t testing.TB) map[string]catalog.Entry {
	t.Helper()
	r := bytes.NewReader(a.catalog.Bytes())
	c, err := catalog.Open(r, r.Size())
	must(t, err)
	out := make(map[string]catalog.Entry)
	must(t, c.Walk(context.Background(), r, archiveName, func(path []string, e catalog.Entry) error {
		out[strings.Join(path, "/")] = e
		return nil
	}))
	return out
}

// attrs returns the extended attributes that archives store of a path.
func attrs(t testing.TB, path string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	buf, value := make([]byte, 64<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if pxar.StoresAttribute(name) {
			n, err := unix.Lgetxattr(path, name, value)
			must(t, err)
			out[name] = string(value[:n])
		}
	}
	return out
}

// fileSystem mounts a new file system of a kind, which is gone with the test.
func fileSystem(t testing.TB, kind string, megabytes int64, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("mkfs." + kind); err != nil {
		t.Skip(err)
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	write(t, image, "")
	must(t, os.Truncate(image, megabytes<<20))
	if kind == "ext4" {
		mkfs = append(mkfs, "-b", "4096")
	}
	run(t, "mkfs."+kind, append(mkfs, "-q", image)...)
	run(t, "mount", "-t", kind, "-o", "loop", image, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
