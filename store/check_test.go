package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// A file that was damaged since it was read is found to be, whatever memory has.
func TestChecksReadWhatIsOnDisk(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	chunks := sn.Dynamic("a.stream.didx", []byte("one"), []byte("two"))
	sn.Blob("a.conf.blob", []byte("text"))
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	readAll(t, r, p.stream(s, "a.stream.didx"), 6)
	line, conf := p.line(s, "a.stream.didx"), p.line(s, "a.conf.blob")
	x, err := s.ReadIndex(t.Context(), r, line)
	if err != nil || x.Len() != 2 || x.FileSize() != 4096+80 {
		t.Fatalf("got %v, %v", x, err)
	}
	want := s.Wanted(line, x.Span(1))
	var checker store.ChunkChecker
	if got, err := checker.Check(t.Context(), r, want); err != nil || got.Stored != 12+3 || got.Sealed {
		t.Errorf("Check: got %+v, %v", got, err)
	}
	if got, err := s.CheckBlob(t.Context(), r, conf); err != nil || got.Stored != 12+4 {
		t.Errorf("CheckBlob: got %+v, %v", got, err)
	}

	p.Write(storetest.ChunkFile(chunks[1]), storetest.Blob([]byte("tow"), nil))
	p.Write(sn.Dir+"/a.stream.didx", []byte("garbage"))
	p.Write(sn.Dir+"/a.conf.blob", storetest.Blob([]byte("tex_"), nil))
	readAll(t, r, p.stream(s, "a.stream.didx"), 6) // from memory
	var bad *store.ChunkError
	if _, err := checker.Check(t.Context(), r, want); !errors.As(err, &bad) || bad.Fault != store.ChunkDamaged || !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Check of a damaged chunk: got %v", err)
	}
	if _, err := s.ReadIndex(t.Context(), r, line); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("ReadIndex of a damaged index: got %v", err)
	}
	if _, err := s.CheckBlob(t.Context(), r, conf); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("CheckBlob of a damaged blob: got %v", err)
	}
	p.Write(sn.Dir+"/index.json.blob", []byte("garbage"))
	if _, err := store.ReadSnapshot(t.Context(), r, s.Name()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("ReadSnapshot with a damaged manifest: got %v", err)
	}
}

// A chunk that was checked is not kept: a reader reads it from disk.
func TestCheckedChunksAreNotKept(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	d := sn.Dynamic("a.stream.didx", []byte("one"))[0]
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	line := p.line(s, "a.stream.didx")
	x, err := s.ReadIndex(t.Context(), r, line)
	if err != nil {
		t.Fatal(err)
	}
	var checker store.ChunkChecker
	if _, err := checker.Check(t.Context(), r, s.Wanted(line, x.Span(0))); err != nil {
		t.Fatal(err)
	}
	p.Remove(storetest.ChunkFile(d))
	if _, err := p.stream(s, "a.stream.didx").ReadAt(t.Context(), r, make([]byte, 3), 0); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v, want the chunk to be missing", err)
	}
	var bad *store.ChunkError
	if _, err := checker.Check(t.Context(), r, s.Wanted(line, x.Span(0))); !errors.As(err, &bad) || bad.Fault != store.ChunkMissing || bad.Digest != d || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check: got %v", err)
	}
	p.Write(storetest.ChunkFile(d)+".0.bad", nil)
	if _, err := checker.Check(t.Context(), r, s.Wanted(line, x.Span(0))); !errors.As(err, &bad) || bad.Fault != store.ChunkMarked {
		t.Errorf("Check of a chunk that is marked bad: got %v", err)
	}
}

func TestFaultOfAnErrorOfTheDisk(t *testing.T) {
	for err, want := range map[error]store.ChunkFault{unix.EIO: store.ChunkUnreadable, unix.EACCES: 0, unix.EPERM: 0, unix.EMFILE: 0, unix.ENOMEM: 0, unix.EUCLEAN: store.ChunkUnreadable} {
		if got := store.FaultOf(&fs.PathError{Op: "read", Path: "x", Err: err}); got != want {
			t.Errorf("%v: got fault %d, want %d", err, got, want)
		}
	}
}

func TestStillTellsWhatHappenedToASnapshot(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Blob("a.conf.blob", []byte("text"))
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	if err := s.Still(t.Context(), r); err != nil {
		t.Errorf("unchanged: got %v", err)
	}
	sn.Unprotected["notes"] = "verified"
	sn.Finish()
	if err := s.Still(t.Context(), r); err != nil {
		t.Errorf("with other notes: got %v", err)
	}
	sn.Blob("b.conf.blob", []byte("more"))
	sn.Finish()
	if err := s.Still(t.Context(), r); !store.Vanished(err) {
		t.Errorf("with other files: got %v", err)
	}
	p.Remove(sn.Dir)
	if err := s.Still(t.Context(), r); !store.Vanished(err) {
		t.Errorf("removed: got %v", err)
	}
}

func TestPartsAreTheChunksThatAReadNeeds(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot("vm/100", noon)
	data := []byte(strings.Repeat("a", 4096) + strings.Repeat("\x00", 8192) + "end")
	list := sn.Fixed("drive.img.fidx", 4096, data)
	root := storetest.Dir("", storetest.File("first", "x"), storetest.File("big", strings.Repeat("0123456789", 50)))
	sn.Pxar("root.pxar.didx", root)
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	var got []string
	collect := func(part store.Part) error {
		got = append(got, fmt.Sprint(part.Chunk.Digest() == list[0], part.Off, part.End))
		return nil
	}
	if err := p.stream(s, "drive.img.fidx").Parts(t.Context(), r, collect); err != nil {
		t.Fatal(err)
	}
	if want := []string{"true 0 4096", "false 12288 12291"}; !slices.Equal(got, want) {
		t.Errorf("image: got %q, want %q", got, want)
	}
	a, err := s.Archive(t.Context(), r, p.line(s, "root.pxar.didx"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := a.Root(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.Lookup(t.Context(), r, dir.Dir, "big")
	if err != nil {
		t.Fatal(err)
	}
	content, err := a.Content(t.Context(), r, e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	if err := content.Parts(t.Context(), r, func(part store.Part) error {
		if part.Off != end || part.End <= part.Off || part.End-part.Off > 200 {
			t.Errorf("got the part %d-%d after %d", part.Off, part.End, end)
		}
		end = part.End
		return nil
	}); err != nil || end != 500 {
		t.Errorf("parts end at %d, %v", end, err)
	}
	stop := errors.New("stop")
	if err := content.Parts(t.Context(), r, func(store.Part) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := (store.Extent{}).Parts(t.Context(), r, collect); err != nil {
		t.Errorf("zero value: got %v", err)
	}
}

// Readers that share an operation are counted once, and each holds its own locks.
func TestShare(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Blob("a.conf.blob", []byte("text"))
	sn.Finish()
	r, err := p.ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shared, err := r.Share()
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Lock(t.Context(), p.snapshotName(sn.Dir)); err != nil {
		t.Fatal(err)
	}
	r.Release()
	if n := p.ref.Operations().Read; n != 1 || len(p.ref.Locked()) != 1 {
		t.Errorf("got %d operations, %v locked", n, p.ref.Locked())
	}
	p.load(shared, sn.Dir)
	shared.Release()
	shared.Release()
	eventually(t, "nothing is counted and locked", func() bool { return p.ref.Operations().Read == 0 && len(p.ref.Locked()) == 0 })
	for _, released := range []*store.Reader{r, shared, nil, {}} {
		if _, err := released.Share(); !errors.Is(err, store.ErrReleased) {
			t.Errorf("Share of a reader that is not held: got %v", err)
		}
	}
}

func TestChunkFiles(t *testing.T) {
	p := newPlace(t)
	one, two := p.Chunk([]byte("one"), nil), p.Chunk([]byte("two"), nil)
	p.Write(storetest.ChunkFile(two)+".9.bad", make([]byte, 5))
	for _, other := range []string{
		storetest.ChunkFile(one) + ".tmp_x", storetest.ChunkFile(one) + ".10.bad", storetest.ChunkFile(one) + ".bad",
		".chunks/ffff/" + one.String(), ".chunks/0000/short", ".chunks/README", ".chunks/abc/" + one.String(),
	} {
		p.Write(other, []byte("x"))
	}
	p.Mkdir(".chunks/0001/" + strings.Repeat("0001", 16))
	var got []string
	err := store.ChunkFiles(t.Context(), p.reader(), func(f store.ChunkFile) error {
		size, ok, err := f.Size(t.Context())
		got = append(got, fmt.Sprint(f.Digest, f.Bad, size, ok))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprint(one, false, 15, true), fmt.Sprint(two, false, 15, true), fmt.Sprint(two, true, 5, true)}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stop := errors.New("stop")
	if err := store.ChunkFiles(t.Context(), p.reader(), func(store.ChunkFile) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
