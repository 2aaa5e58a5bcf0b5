package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	morning = "2023-11-14T08:00:00Z"
	noon    = "2023-11-14T12:00:00Z"
	evening = "2023-11-14T20:00:00Z"
)

// place is a datastore that is verified.
type place struct {
	*storetest.Store
	t    testing.TB
	host hosts.Host
	keys []*keys.Key
}

func newPlace(t testing.TB, open ...*storetest.Key) *place {
	t.Helper()
	p := &place{Store: storetest.New(t), t: t, host: storetest.Host(t, "")}
	for _, k := range open {
		p.keys = append(p.keys, k.Key)
	}
	return p
}

// with calls fn with the datastore, opened anew.
func (p *place) with(fn func(*store.Lookup, *store.Reader)) {
	p.t.Helper()
	ref, err := store.Open(p.t.Context(), store.Options{
		Name: "tank", Path: p.Dir, Host: p.host, Keys: p.keys, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := ref.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	r, err := ref.Acquire(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Release()
	fn(ref, r)
}

// found is what a verification has found.
type found struct {
	Counts
	damage []Damage
	costs  []Cost
	told   []Told
	err    error
}

func (f *found) Damage(d Damage) error { f.damage = append(f.damage, d); return nil }
func (f *found) Cost(c Cost) error     { f.costs = append(f.costs, c); return nil }
func (f *found) Told(t Told) error     { f.told = append(f.told, t); return nil }

// verify verifies everything.
func (p *place) verify(opts Options) *found {
	p.t.Helper()
	f := &found{}
	p.with(func(ref *store.Lookup, r *store.Reader) {
		finished, left, err := Collect(p.t.Context(), r, tree.New(ref).Root())
		if err != nil {
			p.t.Fatal(err)
		}
		for _, s := range left {
			f.told = append(f.told, Told{Snapshot: s, Note: Unfinished})
		}
		f.err = Run(p.t.Context(), ref, r, finished, opts, &f.Counts, f)
	})
	if f.err != nil {
		p.t.Errorf("Run: %v", f.err)
	}
	return f
}

// lost returns what is lost, path by path: "path", "path 3-7" for bytes of a file, or
// "path/..." for a listing that does not have all names.
func (f *found) lost() []string {
	var out []string
	for _, c := range f.costs {
		switch c.Kind {
		case Ranges:
			for _, r := range c.Ranges {
				for off := r.Off; off < r.End; off++ {
					out = append(out, fmt.Sprintf("%s %d", c.Path, off))
				}
			}
		case Listing:
			out = append(out, c.Path+"/...")
		case File, Below, Sealed:
			out = append(out, c.Path)
		}
	}
	return unique(out)
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// unreadable returns what a reader of the tree fails on, in the form of lost. It reads
// each byte on its own of a file that it cannot read whole, or 64 of an image. What it remembers of one snapshot does not help it
// with the next.
func (p *place) unreadable() (out []string) {
	p.t.Helper()
	p.with(func(ref *store.Lookup, r *store.Reader) {
		w := &slowReader{ctx: p.t.Context(), t: p.t, ref: ref, r: r}
		w.directory(tree.New(ref).Root(), "")
		out = unique(w.failed)
	})
	return out
}

type slowReader struct {
	ctx    context.Context
	t      testing.TB
	ref    *store.Lookup
	r      *store.Reader
	failed []string
}

func (w *slowReader) fail(path string) { w.failed = append(w.failed, strings.TrimPrefix(path, "/")) }

func (w *slowReader) directory(n *tree.Node, path string) {
	l, err := n.List(w.ctx, w.r)
	if err != nil {
		w.fail(path)
		return
	}
	whole := l.Err() == nil
	for i := range l.Len() {
		e, err := l.At(w.ctx, w.r, i)
		if err != nil {
			w.t.Fatalf("%s: %v", path, err)
		}
		whole = whole && (e.Err == nil || e.Name != "")
		below := path + "/" + e.Name
		switch {
		case e.Name == "":
		case e.Err != nil:
			w.fail(below)
		default:
			w.child(n, e.Name, below)
		}
	}
	if !whole {
		w.fail(path + "/...")
	}
}

func (w *slowReader) child(dir *tree.Node, called, path string) {
	if _, inside := dir.Snapshot(); !inside {
		w.ref.Forget()
	}
	n, err := dir.Lookup(w.ctx, w.r, called)
	switch {
	case err != nil:
		w.fail(path)
	case n.IsDir() && strings.HasSuffix(called, ".img.d"):
	case n.IsDir():
		w.directory(n, path)
	case n.Type() == unix.S_IFREG:
		w.file(n, path)
	}
}

func (w *slowReader) file(n *tree.Node, path string) {
	f, err := n.Open(w.ctx, w.r)
	if err != nil {
		w.fail(path)
		return
	}
	if n, err := f.ReadAt(w.ctx, w.r, make([]byte, f.Size()+1), 0); int64(n) == f.Size() && errors.Is(err, io.EOF) {
		return
	}
	step := int64(1)
	if strings.HasSuffix(path, ".img") {
		step = 64
	}
	for off := int64(0); off < f.Size(); off += step {
		end := min(off+step, f.Size())
		if n, err := f.ReadAt(w.ctx, w.r, make([]byte, end-off), off); int64(n) == end-off && (err == nil || errors.Is(err, io.EOF)) {
			continue
		}
		for ; off < end; off++ {
			w.fail(fmt.Sprintf("%s %d", path, off))
		}
		off = end - step
	}
}

// state describes everything below a directory: content, and what a write changes.
func state(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = fmt.Sprint(st.Ino, st.Mode, st.Nlink, st.Mtim, st.Ctim, string(content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// snapshotName returns the snapshot in a directory of the root namespace.
func snapshotName(t testing.TB, dir string) name.Snapshot {
	t.Helper()
	parts := strings.Split(dir, "/")
	g, err := name.NewGroup(name.Namespace{}, name.Type(parts[0]), parts[1])
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseTime(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	s, err := name.NewSnapshot(g, at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
