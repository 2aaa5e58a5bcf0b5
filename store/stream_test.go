package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// Every range of a stream is what the same range of its content is, and a read
// is short at the end only.
func TestReadAtEveryRange(t *testing.T) {
	content := []byte("0123456789abcdefghijklmnopqr")
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Dynamic("d.didx", content[:1], content[1:10], content[10:11], content[11:])
	sn.Fixed("f.img.fidx", 8, content)
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	for _, file := range []string{"d.didx", "f.img.fidx"} {
		x := p.stream(s, file)
		if x.Size() != int64(len(content)) {
			t.Errorf("%s: size %d, want %d", file, x.Size(), len(content))
		}
		for off := range len(content) + 2 {
			for n := range len(content) + 3 {
				buf := make([]byte, n)
				got, err := x.ReadAt(t.Context(), r, buf, int64(off))
				want := content[min(off, len(content)):min(off+n, len(content))]
				if !bytes.Equal(buf[:got], want) {
					t.Errorf("%s: %d bytes at %d: %q, want %q", file, n, off, buf[:got], want)
				}
				if end := len(want) < n; end != errors.Is(err, io.EOF) || err != nil && !end {
					t.Errorf("%s: %d bytes at %d: %v, want the end: %v", file, n, off, err, end)
				}
			}
		}
		if _, err := x.ReadAt(t.Context(), r, make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: read at -1: %v, want an error", file, err)
		}
	}
}

const block = 4096

// pattern makes an image: a block of data for each 'x', of zeros for each '.',
// and half a block of either for 'h' and 'z'.
func pattern(s string) (out []byte) {
	for i, c := range s {
		data := bytes.Repeat([]byte(fmt.Sprintf("%04d", i+1)), block/4)
		switch c {
		case '.':
			data = make([]byte, block)
		case 'h':
			data = data[:block/2]
		case 'z':
			data = make([]byte, block/2)
		}
		out = append(out, data...)
	}
	return out
}

// The chunks of holes are never read: they are not even there.
func TestHoles(t *testing.T) {
	type seek struct{ off, data, hole int64 } // in blocks, from off; rounded down
	for image, c := range map[string]struct {
		allocated int64 // in half blocks
		seeks     []seek
	}{
		"x.x..xx": {8, []seek{{0, 0, 1}, {1, 2, 1}, {2, 2, 3}, {3, 5, 3}, {4, 5, 4}, {5, 5, 7}, {6, 6, 7}, {7, 7, 7}, {9, 7, 7}}},
		"....":    {0, []seek{{0, 4, 0}, {3, 4, 3}, {4, 4, 4}}},
		"xx":      {4, []seek{{0, 0, 2}, {1, 1, 2}, {2, 2, 2}}},
		".h":      {1, []seek{{0, 1, 0}, {1, 1, 1}}},
		".z":      {1, []seek{{0, 1, 0}}}, // a short chunk at the end is none
		"h":       {1, []seek{{0, 0, 0}}},
	} {
		content := pattern(image)
		for _, key := range []*storetest.Key{nil, storetest.NewKey(t, 1)} {
			var ring []*storetest.Key
			if key != nil {
				ring = append(ring, key)
			}
			p := newPlace(t, ring...)
			sn := p.Snapshot("vm/100", noon)
			sn.Key = key
			sn.Fixed("disk.img.fidx", block, content)
			sn.Finish()
			zeros := name.Digest(sha256.Sum256(make([]byte, block)))
			if key != nil {
				zeros = key.Digest(make([]byte, block))
			}
			if strings.Contains(image, ".") {
				p.Remove(storetest.ChunkFile(zeros))
			}
			r := p.reader()
			x := p.stream(p.load(r, sn.Dir), "disk.img.fidx")
			if got := readAll(t, r, x, len(content)); !bytes.Equal(got, content) {
				t.Errorf("%s: content is wrong", image)
			}
			if got, err := x.Allocated(t.Context(), r); err != nil || got != c.allocated*block/2 {
				t.Errorf("%s: Allocated = %d, %v, want %d", image, got, err, c.allocated*block/2)
			}
			size := int64(len(content))
			for _, s := range c.seeks {
				for _, in := range []int64{0, 1, block/2 - 1} {
					off := s.off*block + in
					data, err1 := x.NextData(t.Context(), r, off)
					hole, err2 := x.NextHole(t.Context(), r, off)
					wantData, wantHole := within(s.off, s.data, off, size), within(s.off, s.hole, off, size)
					if strings.HasSuffix(image, "h") && s.hole == int64(len(image))-1 && s.data == s.hole {
						wantHole = size
					}
					if err1 != nil || err2 != nil || data != wantData || hole != wantHole {
						t.Errorf("%s from %d: data at %d, %v, hole at %d, %v, want %d and %d", image, off, data, err1, hole, err2, wantData, wantHole)
					}
				}
			}
		}
	}
}

// within returns where a search from off ends that began in one block and has
// to end in another: where that begins, or at off itself.
func within(begin, end, off, size int64) int64 {
	if begin == end {
		return min(off, size)
	}
	return min(end*block, size)
}

func TestDynamicStreamsHaveNoHoles(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Dynamic("x.didx", make([]byte, block), make([]byte, block))
	sn.Finish()
	r := p.reader()
	x := p.stream(p.load(r, sn.Dir), "x.didx")
	allocated, err1 := x.Allocated(t.Context(), r)
	data, err2 := x.NextData(t.Context(), r, 5)
	hole, err3 := x.NextHole(t.Context(), r, 5)
	if err := errors.Join(err1, err2, err3); err != nil || allocated != 2*block || data != 5 || hole != 2*block {
		t.Errorf("allocated %d, data %d, hole %d, %v", allocated, data, hole, err)
	}
}

// An index that is not the one in the manifest is not used.
func TestIndexIsHeldAgainstTheManifest(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	files := []string{"good.didx", "size.didx", "csum.didx", "gone.didx", "empty.didx", "cut.didx", "fixed.didx", "link.didx", "dir.didx"}
	for _, f := range files {
		sn.Dynamic(f, []byte(f), []byte("content"))
	}
	sn.Lines[1].Size++
	sn.Lines[2].Csum = strings.Repeat("00", 32)
	sn.Fixed("f.img.fidx", 4096, make([]byte, 10000))
	sn.Finish()
	path := func(f string) string { return filepath.Join(p.Dir, sn.Dir, f) }
	p.Remove(sn.Dir + "/gone.didx")
	p.Write(sn.Dir+"/empty.didx", nil)
	for _, err := range []error{
		os.Truncate(path("cut.didx"), 4096+40), os.Rename(path("f.img.fidx"), path("fixed.didx")),
		os.Remove(path("link.didx")), os.Symlink("good.didx", path("link.didx")),
		os.Remove(path("dir.didx")), os.Mkdir(path("dir.didx"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := p.reader()
	s := p.load(r, sn.Dir)
	if got := readAll(t, r, p.stream(s, files[0]), 16); string(got) != "good.didxcontent" {
		t.Errorf("good.didx = %q", got)
	}
	for _, f := range files[1:] {
		x := p.stream(s, f)
		buf := make([]byte, 8)
		n, err := x.ReadAt(t.Context(), r, buf, 0)
		checkDamage(t, "ReadAt", err, f)
		if n != 0 {
			t.Errorf("%s: %d bytes came with the error", f, n)
		}
		checkDamage(t, "Check", x.Check(t.Context(), r), f)
	}
}

// A damaged chunk spoils what lies in it, and no more; the error says where.
func TestDamagedChunk(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	digests := sn.Dynamic("x.didx", []byte("good"), []byte("bad!"), []byte("fine"))
	sn.Finish()
	p.Remove(storetest.ChunkFile(digests[1]))
	r := p.reader()
	x := p.stream(p.load(r, sn.Dir), "x.didx")
	buf := make([]byte, 12)
	n, err := x.ReadAt(t.Context(), r, buf, 0)
	checkDamage(t, "ReadAt", err, "x.didx")
	var own *store.Error
	if n != 4 || string(buf[:n]) != "good" || !errors.As(err, &own) || own.Off != 4 {
		t.Errorf("ReadAt = %d, %q, %+v, want 4 bytes and an error at 4", n, buf[:n], own)
	}
	if want := "chunk " + digests[1].String(); own.Cause() != want {
		t.Errorf("Cause = %q, want %q", own.Cause(), want)
	}
	for _, part := range []string{testName, sn.Dir, "x.didx", digests[1].String(), "offset 4"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %q", err, part)
		}
	}
	for off, want := range map[int64]string{0: "good", 8: "fine"} {
		if n, err := x.ReadAt(t.Context(), r, buf[:4], off); err != nil || string(buf[:4]) != want {
			t.Errorf("ReadAt(%d) = %q, %d, %v, want %q", off, buf[:4], n, err, want)
		}
	}
	p.Chunk([]byte("bad!"), nil) // a later backup brings it back
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n, err := x.ReadAt(t.Context(), r, buf, 0)
		if err == nil && string(buf) == "goodbad!fine" {
			break
		}
		if time.Now().After(deadline) { // a load ahead that began before may still fail
			t.Fatalf("ReadAt = %q, %d, %v after the chunk came back", buf, n, err)
		}
	}
}

func TestArchive(t *testing.T) {
	for _, split := range []bool{false, true} {
		p := newPlace(t)
		sn := p.Snapshot(alpha, noon)
		f := storetest.File("file", strings.Repeat("content ", 100))
		root := storetest.Dir("", f, storetest.Link("link", f), storetest.Dir("sub", storetest.File("empty", "")))
		file := "root.pxar.didx"
		if split {
			file = "root.mpxar.didx"
			sn.Split("root", root)
		} else {
			sn.Pxar(file, root)
		}
		sn.Finish()
		r := p.reader()
		s := p.load(r, sn.Dir)
		a, err := s.Archive(t.Context(), r, p.line(s, file))
		if err != nil {
			t.Fatal(err)
		}
		top, err := a.Root(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"file", "link"} {
			e, err := a.Lookup(t.Context(), r, top.Dir, name)
			if err != nil {
				t.Fatal(err)
			}
			x, err := a.Content(t.Context(), r, e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, r, x, 800); string(got) != f.Data {
				t.Errorf("split %v: %s = %q", split, name, got)
			}
			if n, err := a.LinkCount(t.Context(), r, e.NamePos); err != nil || n != 2 {
				t.Errorf("split %v: %s has link count %d, %v, want 2", split, name, n, err)
			}
		}
		if _, err := a.Lookup(t.Context(), r, top.Dir, "none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("split %v: none: %v, want ErrNotExist", split, err)
		}
		b, err := s.Archive(t.Context(), r, p.line(s, file))
		if err != nil || b != a {
			t.Errorf("split %v: archive was opened again, %v", split, err)
		}
	}
}

// Metadata whose payload half is missing can be walked; its files cannot be
// read, and that is damage.
func TestSplitArchiveWithoutPayload(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Split("root", storetest.Dir("", storetest.File("file", "content")))
	sn.Lines = sn.Lines[:1]
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	a, err := s.Archive(t.Context(), r, p.line(s, "root.mpxar.didx"))
	if err != nil {
		t.Fatal(err)
	}
	top, err := a.Root(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.Lookup(t.Context(), r, top.Dir, "file")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Content(t.Context(), r, e.Payload)
	checkDamage(t, "Content", err, "root.mpxar.didx")
}
