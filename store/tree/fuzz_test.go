package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

func catalogBytes(root *storetest.Node) []byte {
	b, err := storetest.CatalogOf("root.pxar.didx", root)
	if err != nil {
		panic(err) // the tree is always the same
	}
	return b
}

// surveyor looks at all that a snapshot shows, and checks what has to hold whatever lies in it.
type surveyor struct {
	t     *testing.T
	v     *view
	ctx   context.Context
	room  int  // objects that may still come
	exact bool // listings are the same each time, errors included
}

// most is how many objects are looked at; a forgery of some KiB has far fewer.
const most = 20_000

// survey walks what lies at a path. The bounds are generous.
func survey(t *testing.T, v *view, at string, exact bool, memory uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := allocated()
	s := &surveyor{t: t, v: v, ctx: ctx, room: most, exact: exact}
	n, err := v.Walk(ctx, v.r, at, false)
	if err != nil {
		s.want("walk to "+at, err)
		return
	}
	s.dir(at, n)
	if got := allocated() - before; got > memory {
		t.Errorf("%s: looking at it took %d bytes of memory, want %d at most", at, got, memory)
	}
	if ctx.Err() != nil {
		t.Errorf("%s: it does not end", at)
	}
}

// allocated returns how many bytes were allocated since the process began.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// want fails for an error that no damage explains.
func (s *surveyor) want(what string, err error) {
	s.t.Helper()
	var own *store.Error
	if err == nil || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrKeyNeeded) && errors.As(err, &own) {
		return
	}
	s.t.Errorf("%s: %v, which is no error about damage", what, err)
}

// listed is a listing as it was seen.
type listed struct {
	entries []tree.Entry
	err     error
}

func (s *surveyor) list(n *tree.Node) (l listed) {
	l.err = tree.Visit(s.ctx, s.v.r, n, func(e tree.Entry) error {
		l.entries = append(l.entries, e)
		return nil
	})
	return l
}

func (s *surveyor) dir(at string, n *tree.Node) {
	l, again := s.list(n), s.list(n)
	s.want("list "+at, l.err)
	s.compare(at, l, again)
	seen := make(map[string]bool)
	for _, e := range l.entries {
		if s.room--; s.room < 0 {
			s.t.Fatalf("%s: more than %d objects", at, most)
		}
		below := path.Join(at, "x") + "/" + e.Name
		if e.Name == "." || e.Name == ".." || len(e.Name) > unix.NAME_MAX || path.Base(below) != e.Name || seen[e.Name] {
			s.t.Errorf("%s: lists %q, which is no name, or is there twice", at, e.Name)
		}
		seen[e.Name] = true
		s.entry(at+"/"+e.Name, n, e)
	}
	if _, err := n.Lookup(s.ctx, s.v.r, "not there"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.want("look up what is not there in "+at, err)
	}
	for _, up := range []string{"..", ".", "", "a/b"} {
		if c, err := n.Lookup(s.ctx, s.v.r, up); err == nil {
			s.t.Errorf("%s: %q leads to %v", at, up, c)
		}
	}
}

// compare compares two listings of one directory. Where entries are damaged, the first one may
// know names from the catalog that the second one, which has them in memory, finds wrong.
func (s *surveyor) compare(at string, l, again listed) {
	if (l.err != nil || again.err != nil) && !s.exact {
		return
	}
	if len(l.entries) != len(again.entries) || (l.err == nil) != (again.err == nil) {
		s.t.Errorf("%s: lists %d entries, %v; then %d, %v", at, len(l.entries), l.err, len(again.entries), again.err)
		return
	}
	for i, e := range l.entries {
		if a := again.entries[i]; a.Name != e.Name || s.exact && (a.Type != e.Type || a.ID != e.ID) {
			s.t.Errorf("%s: lists %q as %o, then %q as %o", at, e.Name, e.Type, a.Name, a.Type)
		}
	}
}

func (s *surveyor) entry(at string, up *tree.Node, e tree.Entry) {
	s.want(at, e.Err)
	n, err := up.Lookup(s.ctx, s.v.r, e.Name)
	if err != nil {
		if e.Err == nil && s.exact && !errors.Is(err, store.ErrCorrupt) {
			s.t.Errorf("%s: listed, and then: %v", at, err)
		}
		s.want("look up "+at, err)
		return
	}
	if s.exact && e.Err == nil && (n.ID() != e.ID || n.Type() != e.Type) {
		s.t.Errorf("%s: listed as %x, %o, looked up: %x, %o", at, e.ID, e.Type, n.ID(), n.Type())
	}
	_, err = n.ReadXattrs(s.ctx, s.v.r)
	s.want("attributes of "+at, err)
	switch {
	case n.IsDir():
		s.dir(at, n)
	case n.Type() == unix.S_IFREG:
		s.file(at, n)
	}
}

// file reads a file at its beginning, at its end, and behind it.
func (s *surveyor) file(at string, n *tree.Node) {
	f, err := n.Open(s.ctx, s.v.r)
	if err != nil {
		s.want("open "+at, err)
		return
	}
	size := f.Size()
	if size < 0 || size != n.Attr().Size {
		s.t.Errorf("%s: open it has %d bytes, its node says %d", at, size, n.Attr().Size)
	}
	p := make([]byte, 16<<10)
	for _, off := range []int64{0, 1, size / 2, size - 1, size, size + 1, math.MaxInt64 - 1, math.MaxInt64} {
		if off < 0 {
			continue
		}
		got, err := f.ReadAt(s.ctx, s.v.r, p, off)
		if int64(got) > max(0, size-off) || err == nil && got < len(p) {
			s.t.Errorf("%s: read %d bytes at %d of %d, %v", at, got, off, size, err)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			s.want(fmt.Sprintf("read %s at %d", at, off), err)
		}
	}
	if sparse, ok := f.(tree.Sparse); ok {
		s.holes(at, sparse)
	}
}

func (s *surveyor) holes(at string, f tree.Sparse) {
	off := int64(0)
	for range 1000 {
		data, err := f.NextData(s.ctx, s.v.r, off)
		if err != nil || data == f.Size() {
			s.want("data of "+at, err)
			return
		}
		hole, err := f.NextHole(s.ctx, s.v.r, data)
		if err != nil {
			s.want("holes of "+at, err)
			return
		}
		if data < off || hole <= data || hole > f.Size() {
			s.t.Errorf("%s: from %d of %d, data at %d and a hole at %d", at, off, f.Size(), data, hole)
			return
		}
		off = hole
	}
}

// FuzzSnapshot changes an archive, its catalog, indexes, chunks and manifest as they are decoded,
// writes them again with right checksums, and looks at everything.
func FuzzSnapshot(f *testing.F) {
	for base := range byte(4) {
		for what := range byte(24) {
			f.Add(base, []byte{what, 9, 5, 3})
		}
		f.Add(base, []byte{19, 7, 0, 0, 13, 21, 1, 3, 18, 8, 0, 40})
		f.Add(base, []byte{16, 12, 11, 0, 8, 12, 0, 21})
		f.Add(base, []byte{0, 0, 0, 13, 0, 1, 1, 1, 2, 0, 1, 3, 1, 0, 0, 22})
	}
	v := open(f, storetest.InMemory(f))
	number := 0
	f.Fuzz(func(t *testing.T, base byte, program []byte) {
		number++
		s, forged := storetest.In(t, v.Dir), forge(base, program)
		sn := s.Snapshot(fmt.Sprint("host/f", number), noon)
		forged.write(sn)
		survey(t, v, sn.Dir, forged.catalog == nil, 256<<20)
		s.Remove(".chunks")
		s.Mkdir(".chunks")
		s.Remove(fmt.Sprint("host/f", number))
	})
}
