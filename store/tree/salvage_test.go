package tree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// letters is data that repeats nowhere and has no zeros.
func letters(seed uint64, n int) string {
	rng := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

// salvaged is a file that is read past damage, and what it was before that.
type salvaged struct{ path, truth string }

// salvagePlace is a datastore with contents of each kind in chunks of 200 bytes, or 4096.
type salvagePlace struct {
	*storetest.Store
	key    *storetest.Key
	files  []salvaged
	chunks map[string][]name.Digest
}

func newSalvagePlace(t *testing.T) *salvagePlace {
	p := &salvagePlace{Store: storetest.New(t), key: storetest.NewKey(t, 5), chunks: make(map[string][]name.Digest)}
	for i, kind := range []string{"plain", "sealed"} {
		sn := p.Snapshot("host/"+kind, noon)
		if kind == "sealed" {
			sn.Key = p.key
		}
		seed := uint64(100 * i)
		p.chunks[kind+" archive"] = sn.Pxar("root.pxar.didx", p.archive(sn.Dir+"/root.pxar", seed))
		meta, payload := sn.Split("sys", p.archive(sn.Dir+"/sys.pxar", seed+50))
		p.chunks[kind+" metadata"], p.chunks[kind+" payload"] = meta, payload
		image := letters(seed+90, 9000) + string(make([]byte, 3192+4096)) + letters(seed+91, 5000)
		p.chunks[kind+" image"] = sn.Fixed("disk.img.fidx", 4096, []byte(image))
		p.files = append(p.files, salvaged{sn.Dir + "/disk.img", image})
		sn.Finish()
	}
	return p
}

func (p *salvagePlace) archive(at string, seed uint64) *storetest.Node {
	file := func(where, called string, n int) *storetest.Node {
		seed++
		f := storetest.File(called, letters(seed, n))
		p.files = append(p.files, salvaged{at + "/" + where + called, f.Data})
		return f
	}
	return storetest.Dir("",
		file("", "small", 20), file("", "big", 900), file("", "none", 0),
		storetest.Dir("sub", file("sub/", "one", 300), file("sub/", "two", 50)),
		file("", "last", 700))
}

// open opens the datastore with nothing remembered.
func (p *salvagePlace) open(t *testing.T, salvage bool) *view {
	t.Helper()
	opts := store.Options{Name: "tank", Path: p.Dir, Host: storetest.Host(t, ""), Salvage: salvage}
	opts.Keys = append(opts.Keys, p.key.Key)
	return openWith(t, p.Store, opts)
}

// Whatever chunk is damaged: with salvage, exactly the bytes of files and images that
// cannot be read otherwise are zeros, and are said to be; what cannot be reached is an
// error as before. When the chunk is back, the same opened files have their bytes again.
func TestSalvageGivesZerosExactlyWhereDataIsLost(t *testing.T) {
	p := newSalvagePlace(t)
	for what, chunks := range p.chunks {
		t.Run(what, func(t *testing.T) {
			for i, d := range chunks {
				if strings.HasPrefix(what, "sealed") && i%5 != 1 {
					continue // what is lost does not depend on keys
				}
				path := filepath.Join(p.Dir, storetest.ChunkFile(d))
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for how, damage := range map[string]func() error{
					"removed": func() error { return os.Remove(path) },
					"flipped": func() error {
						bad := bytes.Clone(raw)
						bad[len(bad)-1] ^= 1
						return os.WriteFile(path, bad, 0o644)
					},
				} {
					if how == "flipped" && i > 0 {
						continue // what is lost does not depend on it
					}
					if err := damage(); err != nil {
						t.Fatal(err)
					}
					back := func() {
						if err := os.WriteFile(path, raw, 0o644); err != nil {
							t.Fatal(err)
						}
					}
					p.check(t, fmt.Sprintf("%s: chunk %d %s", what, i, how), "host/"+strings.Fields(what)[0]+"/", back)
				}
			}
		})
	}
}

// check compares what is read below a directory with and without salvage. back brings the
// chunk back.
func (p *salvagePlace) check(t *testing.T, what, below string, back func()) {
	t.Helper()
	strict, past := p.open(t, false), p.open(t, true)
	var opened []tree.Salvaged
	var truths []string
	for _, f := range p.files {
		if !strings.HasPrefix(f.path, below) {
			continue
		}
		got, lost, serr := past.salvage(f.path)
		want, missing, err := strict.byByte(f.path)
		payload := strings.Contains(what, " payload:") && strings.Contains(f.path, "/sys.pxar/")
		switch {
		case payload && serr != nil, !payload && (serr == nil) != (err == nil):
			t.Errorf("%s: %s: with salvage %v, without %v", what, f.path, serr, err)
			continue
		case serr != nil:
			continue
		case err != nil: // a header of the payload is lost, which only says what is known
			want, missing = []byte(f.truth), lost
			for _, r := range lost {
				clear(want[r.Off:r.End])
			}
		}
		if !bytes.Equal(got, want) || !slices.Equal(lost, missing) {
			t.Errorf("%s: %s: lost %v, want %v; equal where it is not lost: %v", what, f.path, lost, missing, bytes.Equal(got, want))
		}
		s, damaged := past.damaged(f.path)
		if !slices.Equal(damaged, lost) {
			t.Errorf("%s: %s: damaged in %v, and reads lost %v", what, f.path, damaged, lost)
		}
		if known, err := s.Known(t.Context(), past.r); err != nil || !slices.Equal(known, lost) {
			t.Errorf("%s: %s: known to be damaged in %v, %v, want %v", what, f.path, known, err, lost)
		}
		opened, truths = append(opened, s), append(truths, f.truth)
	}
	back()
	for i, s := range opened {
		got, err := readFile(past, s)
		if err != nil || string(got) != truths[i] {
			t.Errorf("%s: after it came back: %v, or other bytes", what, err)
		}
		if lost, err := s.Damaged(t.Context(), past.r); err != nil || len(lost) > 0 {
			t.Errorf("%s: after it came back: damaged in %v, %v", what, lost, err)
		}
		if lost, err := s.Known(t.Context(), past.r); err != nil || len(lost) > 0 {
			t.Errorf("%s: after it came back: known to be damaged in %v, %v", what, lost, err)
		}
	}
}

func readFile(v *view, f tree.File) ([]byte, error) {
	got := make([]byte, f.Size()+1)
	n, err := f.ReadAt(v.t.Context(), v.r, got, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return got[:n], err
}

// salvage reads a file past damage.
func (v *view) salvage(path string) (content []byte, lost []store.Range, err error) {
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		return nil, nil, err
	}
	f, err := n.Open(v.t.Context(), v.r)
	if err != nil {
		return nil, nil, err
	}
	content, err = readFile(v, f)
	return content, f.(tree.Salvaged).Lost(), err
}

// damaged opens a file to salvage, and asks what is lost of it.
func (v *view) damaged(path string) (tree.Salvaged, []store.Range) {
	v.t.Helper()
	s, err := v.walk(path).Salvage(v.t.Context(), v.r)
	if err != nil || s == nil {
		v.t.Fatalf("%s: Salvage: %v, %v", path, s, err)
	}
	lost, err := s.Damaged(v.t.Context(), v.r)
	if err != nil {
		v.t.Errorf("%s: Damaged: %v", path, err)
	}
	return s, lost
}

// byByte reads each byte of a file on its own, or every 64 bytes of an image, and returns
// zeros where that fails, and where it does.
func (v *view) byByte(path string) (content []byte, missing []store.Range, err error) {
	n, err := v.Walk(v.t.Context(), v.r, path, false)
	if err != nil {
		return nil, nil, err
	}
	f, err := n.Open(v.t.Context(), v.r)
	if err != nil {
		return nil, nil, err
	}
	if content, err = readFile(v, f); err == nil {
		return content, nil, nil
	}
	step := int64(1)
	if strings.HasSuffix(path, ".img") {
		step = 64
	}
	content = make([]byte, f.Size())
	for off := int64(0); off < f.Size(); off += step {
		end := min(off+step, f.Size())
		if n, err := f.ReadAt(v.t.Context(), v.r, content[off:end], off); n == int(end-off) && (err == nil || errors.Is(err, io.EOF)) {
			continue
		}
		clear(content[off:end])
		if last := len(missing) - 1; last >= 0 && missing[last].End == off {
			missing[last].End = end
		} else {
			missing = append(missing, store.Range{Off: off, End: end})
		}
	}
	return content, missing, nil
}

// What is not the content of a file or of a disk image is never made up.
func TestSalvageMakesUpNoStructure(t *testing.T) {
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	root := storetest.Dir("", storetest.File("f", letters(1, 500)))
	chunks := sn.Pxar("root.pxar.didx", root)
	catalog := sn.Catalog("root.pxar.didx", root)
	other := sn.Dynamic("other.bin.didx", []byte("some stream"))
	sn.Blob("a.conf.blob", []byte("conf"))
	sn.Blob("b.conf.blob", []byte("conf"))
	image := sn.Fixed("disk.img.fidx", 4096, []byte(letters(3, 3*4096)))
	sn.Finish()
	for _, d := range [][]name.Digest{chunks[len(chunks)-1:], catalog, other, image[:1]} {
		s.Remove(storetest.ChunkFile(d[0]))
	}
	s.Write(sn.Dir+"/a.conf.blob", []byte("garbage"))
	s.Remove(sn.Dir + "/b.conf.blob")
	v := openWith(t, s, store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, ""), Salvage: true})
	for _, path := range []string{"root.pxar", "catalog.pcat1", "other.bin", "a.conf", "b.conf"} {
		n := v.walk(sn.Dir + "/" + path)
		err := n.Broken()
		if err == nil {
			f, oerr := n.Open(t.Context(), v.r)
			if oerr == nil {
				_, oerr = readFile(v, f)
			}
			err = oerr
		}
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want corrupt data", path, err)
		}
		if past, _ := n.Salvage(t.Context(), v.r); past != nil {
			t.Errorf("%s can be salvaged", path)
		}
	}
	if _, lost, err := v.salvage(sn.Dir + "/disk.img"); err != nil || !slices.Equal(lost, []store.Range{{Off: 0, End: 4096}}) {
		t.Errorf("image: lost %v, %v, want its first chunk", lost, err)
	}
	if _, err := v.list(sn.Dir + "/disk.img.d"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("what lies on the disk: %v, want corrupt data: a decoder gets no zeros", err)
	}
}

// Only damage is salvaged: not what may not be read now, and could be at another time.
func TestSalvageOnlyOfDamage(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	image := sn.Fixed("disk.img.fidx", 4096, []byte(letters(1, 4096)))
	sn.Finish()
	if err := os.Chmod(filepath.Join(s.Dir, storetest.ChunkFile(image[0])), 0); err != nil {
		t.Fatal(err)
	}
	v := openWith(t, s, store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, ""), Salvage: true})
	if _, lost, err := v.salvage(sn.Dir + "/disk.img"); !errors.Is(err, unix.EACCES) || len(lost) > 0 {
		t.Errorf("lost %v, %v, want no permission", lost, err)
	}
}

// Without the option there are no zeros, and a file is not opened to have some.
func TestNoSalvageUnasked(t *testing.T) {
	p := newSalvagePlace(t)
	v := p.open(t, false)
	for _, f := range p.files {
		n := v.walk(f.path)
		opened, err := n.Open(t.Context(), v.r)
		if err != nil {
			t.Fatal(err)
		}
		if _, past := opened.(tree.Salvaged); past {
			t.Errorf("%s is opened to salvage", f.path)
		}
		if past, err := n.Salvage(t.Context(), v.r); past != nil || err != nil {
			t.Errorf("%s: Salvage gives %v, %v, want nothing", f.path, past, err)
		}
	}
}

func TestRangesText(t *testing.T) {
	ranges := []store.Range{{Off: 0, End: 1}, {Off: 4096, End: 8192}, {Off: 100000, End: 100001}}
	for max, want := range map[int]string{
		100: "0-0,4096-8191,100000-100000", 32: "0-0,4096-8191,100000-100000", 31: "0-0,4096-8191,100000-100000", 30: "0-0,4096-8191,...", 17: "0-0,4096-8191,...", 16: "0-0,...",
	} {
		if got := tree.RangesText(ranges, max); got != want {
			t.Errorf("%d bytes at most: %q, want %q", max, got, want)
		}
	}
	if got := tree.RangesText(nil, 10); got != "" {
		t.Errorf("no ranges: %q", got)
	}
}
