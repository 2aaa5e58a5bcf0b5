package store_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// Every exported function that takes a right answers ErrReleased to one that is
// not held, also where memory would have the answer.
func TestRightsThatAreNotHeld(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", "content")))
	sn.Blob("a.conf.blob", []byte("content"))
	sn.Fixed("disk.img.fidx", block, make([]byte, 2*block)) // one hole
	sn.Log("log")
	sn.Finish()
	p.Write(alpha+"/owner", []byte("root@pam"))
	held := p.reader()
	s := p.load(held, sn.Dir)
	blobLine, pxarLine := p.line(s, "a.conf.blob"), p.line(s, "root.pxar.didx")
	x := p.stream(s, "disk.img.fidx")
	var a *store.Archive
	var top, e *pxar.Entry
	var table *pxar.Table
	var content store.Extent
	buf := make([]byte, 7)
	ns := name.Namespace{}
	calls := map[string]func(ctx context.Context, r store.CanRead) error{
		"Statfs":     func(_ context.Context, r store.CanRead) error { _, err := store.Statfs(r); return err },
		"Stat":       func(ctx context.Context, r store.CanRead) error { _, err := store.Stat(ctx, r, "host"); return err },
		"Namespaces": func(ctx context.Context, r store.CanRead) error { _, err := store.Namespaces(ctx, r, ns); return err },
		"Types":      func(ctx context.Context, r store.CanRead) error { _, err := store.Types(ctx, r, ns); return err },
		"Groups": func(ctx context.Context, r store.CanRead) error {
			_, err := store.Groups(ctx, r, ns, name.Host)
			return err
		},
		"Snapshots": func(ctx context.Context, r store.CanRead) error {
			_, err := store.Snapshots(ctx, r, p.group(alpha))
			return err
		},
		"Latest": func(ctx context.Context, r store.CanRead) error {
			_, _, err := store.Latest(ctx, r, p.group(alpha))
			return err
		},
		"GroupFiles": func(ctx context.Context, r store.CanRead) error {
			_, err := store.GroupFiles(ctx, r, p.group(alpha))
			return err
		},
		"ReadGroupFile": func(ctx context.Context, r store.CanRead) error {
			_, _, err := store.ReadGroupFile(ctx, r, p.group(alpha), store.Owner)
			return err
		},
		"LoadSnapshot": func(ctx context.Context, r store.CanRead) error {
			_, err := store.LoadSnapshot(ctx, r, s.Name())
			return err
		},
		"ReadBlob":      func(ctx context.Context, r store.CanRead) error { _, err := s.ReadBlob(ctx, r, blobLine); return err },
		"ReadClientLog": func(ctx context.Context, r store.CanRead) error { _, err := s.ReadClientLog(ctx, r); return err },
		"Stream.Check":  x.Check,
		"Stream.ReadAt": func(ctx context.Context, r store.CanRead) error { _, err := x.ReadAt(ctx, r, buf, 0); return err },
		"Stream.At":     func(ctx context.Context, r store.CanRead) error { _, err := x.At(ctx, r).ReadAt(buf, 0); return err },
		"Allocated":     func(ctx context.Context, r store.CanRead) error { _, err := x.Allocated(ctx, r); return err },
		"NextData":      func(ctx context.Context, r store.CanRead) error { _, err := x.NextData(ctx, r, 0); return err },
		"NextHole":      func(ctx context.Context, r store.CanRead) error { _, err := x.NextHole(ctx, r, 0); return err },
		"Archive": func(ctx context.Context, r store.CanRead) (err error) {
			a, err = s.Archive(ctx, r, pxarLine)
			return err
		},
	}
	inArchive := map[string]func(ctx context.Context, r store.CanRead) error{
		"Root":          func(ctx context.Context, r store.CanRead) error { _, err := a.Root(ctx, r); return err },
		"Table":         func(ctx context.Context, r store.CanRead) error { _, err := a.Table(ctx, r, top.Dir); return err },
		"Lookup":        func(ctx context.Context, r store.CanRead) error { _, err := a.Lookup(ctx, r, top.Dir, "f"); return err },
		"Child":         func(ctx context.Context, r store.CanRead) error { _, _, err := a.Child(ctx, r, table, 0); return err },
		"PathOf":        func(ctx context.Context, r store.CanRead) error { _, err := a.PathOf(ctx, r, e.NamePos); return err },
		"LinkCount":     func(ctx context.Context, r store.CanRead) error { _, err := a.LinkCount(ctx, r, e.NamePos); return err },
		"Content":       func(ctx context.Context, r store.CanRead) error { _, err := a.Content(ctx, r, e.Payload); return err },
		"Extent.ReadAt": func(ctx context.Context, r store.CanRead) error { _, err := content.ReadAt(ctx, r, buf, 0); return err },
	}
	// With a right, everything works, and is in memory afterwards.
	for what, call := range calls {
		if err := call(t.Context(), held); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	opened, err := s.Archive(t.Context(), held, pxarLine)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() (err error) { top, err = opened.Root(t.Context(), held); return },
		func() (err error) { table, err = opened.Table(t.Context(), held, top.Dir); return },
		func() (err error) { e, err = opened.Lookup(t.Context(), held, top.Dir, "f"); return },
		func() (err error) { content, err = opened.Content(t.Context(), held, e.Payload); return },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for what, call := range inArchive {
		if err := call(t.Context(), held); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	released, err := p.ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	released.Release()
	releasedWriter, err := p.ref.AcquireWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	releasedWriter.Release()
	for which, right := range map[string]store.CanRead{
		"no": nil, "nil Reader": (*store.Reader)(nil), "zero Reader": &store.Reader{}, "released Reader": released,
		"nil Writer": (*store.Writer)(nil), "zero Writer": &store.Writer{}, "released Writer": releasedWriter,
	} {
		for what, call := range calls {
			if err := call(t.Context(), right); !errors.Is(err, store.ErrReleased) {
				t.Errorf("%s with %s: %v, want ErrReleased", what, which, err)
			}
		}
		a = opened
		for what, call := range inArchive {
			if err := call(t.Context(), right); !errors.Is(err, store.ErrReleased) {
				t.Errorf("%s with %s: %v, want ErrReleased", what, which, err)
			}
		}
	}
}

func TestZeroReferences(t *testing.T) {
	for what, l := range map[string]*store.Lookup{"nil": nil, "zero": {}} {
		_, readErr := l.Acquire(t.Context())
		_, writeErr := l.AcquireWriter(t.Context())
		viewErr := l.View(t.Context(), func(*store.Reader) error { t.Error("View called its function"); return nil })
		for call, err := range map[string]error{"Acquire": readErr, "AcquireWriter": writeErr, "View": viewErr, "Close": l.Close()} {
			if !errors.Is(err, store.ErrReleased) {
				t.Errorf("%s of the %s Lookup: %v, want ErrReleased", call, what, err)
			}
		}
		if l.Name() != "" || l.Path() != "" || l.Operations() != (opsfile.Counts{}) || l.Base() != (store.Attr{}) {
			t.Errorf("the %s Lookup has a name, a path, operations or attributes", what)
		}
		if l.Untracked() || l.Locked() != nil {
			t.Errorf("the %s Lookup is untracked, or has locked something", what)
		}
		l.Look(t.Context())
	}
	(*store.Reader)(nil).Release()
	(&store.Reader{}).Release()
	(*store.Writer)(nil).Release()
	(&store.Writer{}).Release()
}

// A Reader cannot be asserted up to the right to write.
func TestReaderIsNoWriter(t *testing.T) {
	p := newPlace(t)
	var right store.CanRead = p.reader()
	if _, ok := right.(store.CanWrite); ok {
		t.Error("a Reader can write")
	}
	w, err := p.ref.AcquireWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Release()
	right = w
	if _, ok := right.(store.CanWrite); !ok {
		t.Error("a Writer cannot write")
	}
	if _, err := store.Statfs(w); err != nil {
		t.Errorf("a Writer cannot read: %v", err)
	}
}

func TestCounts(t *testing.T) {
	p := newPlace(t)
	check := func(read, write int64) {
		t.Helper()
		if got, want := p.ref.Operations(), (opsfile.Counts{Read: read, Write: write}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
	}
	check(0, 0)
	a, err := p.ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.ref.AcquireWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check(1, 1)
	if err := p.ref.View(t.Context(), func(*store.Reader) error { check(2, 1); return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("View: %v, want what its function returned", err)
	}
	check(1, 1)
	if err := p.ref.Close(); !errors.Is(err, maint.ErrActive) {
		t.Errorf("Close with operations: %v, want ErrActive", err)
	}
	a.Release()
	a.Release()
	check(0, 1)
	w.Release()
	check(0, 0)
}

func TestViewReleasesWhenItsFunctionPanics(t *testing.T) {
	p := newPlace(t)
	var kept *store.Reader
	func() {
		defer func() {
			if got := recover(); got != "on purpose" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = p.ref.View(t.Context(), func(r *store.Reader) error { kept = r; panic("on purpose") })
	}()
	if n := p.ref.Operations().Total(); n != 0 {
		t.Errorf("%d operations after a panic", n)
	}
	if _, err := store.Statfs(kept); !errors.Is(err, store.ErrReleased) {
		t.Errorf("the reader of a View that has ended: %v, want ErrReleased", err)
	}
}

// Idle, nothing of the datastore is open. With two readers the directory is
// open once, and it is closed when the last one has gone.
func TestNothingIsOpenWhenIdle(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Dynamic("x.didx", []byte("content"))
	sn.Finish()
	idle := func() bool { return len(p.descriptors()) == 0 }
	eventually(t, "what opening has opened is closed", idle)
	a, b := p.reader(), p.reader()
	s := p.load(a, sn.Dir)
	readAll(t, a, p.stream(s, "x.didx"), 7)
	readAll(t, b, p.stream(s, "x.didx"), 7)
	if fds := p.descriptors(); len(fds) != 1 {
		t.Errorf("two readers have %v open, want the directory once", fds)
	}
	a.Release()
	if fds := p.descriptors(); len(fds) != 1 {
		t.Errorf("one reader has %v open, want the directory", fds)
	}
	b.Release()
	eventually(t, "the directory is closed", idle)
	c, err := maint.Sum(p.host, testName)
	if err != nil {
		t.Fatal(err)
	}
	if c.Total() != 0 {
		eventually(t, "the count is taken back", func() bool {
			c, err := maint.Sum(p.host, testName)
			return err == nil && c.Total() == 0
		})
	}
}

// Maintenance that is forced on us refuses new operations; what is open can be
// read to its end, chunks that no memory has included.
func TestOpenReaderSurvivesForcedMaintenance(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Dynamic("x.didx", []byte("one"), []byte("two"))
	sn.Finish()
	r := p.reader()
	x := p.stream(p.load(r, sn.Dir), "x.didx")
	buf := make([]byte, 3)
	if _, err := x.ReadAt(t.Context(), r, buf, 0); err != nil {
		t.Fatal(err)
	}
	if err := maint.SetMode(t.Context(), p.host, testName, cfg.Offline, maint.SetOptions{Drain: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new operations are refused", func() bool {
		again, err := p.ref.Acquire(t.Context())
		again.Release()
		return errors.Is(err, cfg.ErrOffline)
	})
	for off, want := range map[int64]string{0: "one", 3: "two"} {
		if n, err := x.ReadAt(t.Context(), r, buf, off); err != nil || string(buf) != want {
			t.Errorf("read at %d of what is open: %q, %d, %v, want %q", off, buf, n, err, want)
		}
	}
}

// The last reader may close the datastore as soon as it has its data, or has
// given up on it.
func TestCloseRightAfterReading(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Dynamic("x.didx", []byte("content"))
	sn.Finish()
	for i := range 50 {
		ref, err := store.Open(t.Context(), store.Options{Name: testName, Path: p.Dir, Host: p.host, Untracked: true})
		if err != nil {
			t.Fatal(err)
		}
		err = ref.View(t.Context(), func(r *store.Reader) error {
			x := p.stream(p.load(r, sn.Dir), "x.didx")
			if err := x.Check(t.Context(), r); err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%2 == 0 {
				cancel()
			}
			_, err := x.ReadAt(ctx, r, make([]byte, 7), 0)
			return err
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := ref.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}
