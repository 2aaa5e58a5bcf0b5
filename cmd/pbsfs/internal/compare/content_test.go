package compare_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	first  = "2023-11-14T12:00:00Z"
	second = "2023-11-15T12:00:00Z"

	chunkSize = 64 << 10
)

// sides opens a datastore and returns what lies at two paths.
func sides(t *testing.T, s *storetest.Store, a, b string, ring ...*storetest.Key) (compare.Side, compare.Side) {
	t.Helper()
	opts := store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")}
	for _, k := range ring {
		opts.Keys = append(opts.Keys, k.Key)
	}
	ref, err := store.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	var out [2]compare.Side
	for i, p := range []string{a, b} {
		n, err := tree.New(ref).Walk(t.Context(), r, p, false)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		out[i] = compare.Side{Right: r, Node: n}
	}
	return out[0], out[1]
}

// noise returns n bytes that are the same for one seed only.
func noise(seed byte, n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(out)
	return out
}

// images makes two snapshots of an image, and returns the digests of their chunks.
func images(t *testing.T, a, b []byte) (s *storetest.Store, digests [2][][32]byte) {
	t.Helper()
	s = storetest.New(t)
	for i, data := range [][]byte{a, b} {
		sn := s.Snapshot("vm/100", []string{first, second}[i])
		for _, d := range sn.Fixed("disk.img.fidx", chunkSize, data) {
			digests[i] = append(digests[i], d)
		}
		sn.Finish()
	}
	return s, digests
}

// Whether images are the same is told without a look at any chunk: there are none left.
func TestSameContentByDigests(t *testing.T) {
	a := noise(1, 5*chunkSize+100)
	b := bytes.Clone(a)
	b[3*chunkSize+5]++
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{"the same": {a, true}, "one byte differs": {b, false}, "shorter": {a[:5*chunkSize], false}} {
		s, _ := images(t, a, c.data)
		s.Remove(".chunks")
		s.Mkdir(".chunks")
		x, y := sides(t, s, "vm/100/"+first+"/disk.img", "vm/100/"+second+"/disk.img")
		if got, err := compare.SameContent(t.Context(), x, y); got != c.want || err != nil {
			t.Errorf("%s: %t, %v, want %t", name, got, err, c.want)
		}
	}
}

func TestRangesAreExactToTheBlock(t *testing.T) {
	a := noise(1, 6*chunkSize+5000)
	change := func(offs ...int) []byte {
		b := bytes.Clone(a)
		for _, off := range offs {
			b[off]++
		}
		return b
	}
	hole := bytes.Clone(a)
	clear(hole[2*chunkSize : 4*chunkSize])
	for name, c := range map[string]struct {
		b    []byte
		want []compare.Range
	}{
		"nothing":             {a, nil},
		"the first byte":      {change(0), []compare.Range{{0, 4096}}},
		"the last byte":       {change(len(a) - 1), []compare.Range{{6*chunkSize + 4096, 904}}},
		"two blocks, merged":  {change(8191, 8192), []compare.Range{{4096, 8192}}},
		"across two chunks":   {change(chunkSize-1, chunkSize), []compare.Range{{chunkSize - 4096, 8192}}},
		"two that are apart":  {change(10, 3*chunkSize), []compare.Range{{0, 4096}, {3 * chunkSize, 4096}}},
		"a hole":              {hole, []compare.Range{{2 * chunkSize, 2 * chunkSize}}},
		"longer":              {append(bytes.Clone(a), 1, 2, 3), []compare.Range{{int64(len(a)), 3}}},
		"shorter by a chunk":  {a[:5*chunkSize], []compare.Range{{5 * chunkSize, chunkSize + 5000}}},
		"changed and shorter": {change(5)[:5*chunkSize], []compare.Range{{0, 4096}, {5 * chunkSize, chunkSize + 5000}}},
	} {
		s, _ := images(t, a, c.b)
		x, y := sides(t, s, "vm/100/"+first+"/disk.img", "vm/100/"+second+"/disk.img")
		got, err := compare.RangesOf(t.Context(), x, y)
		if err != nil || !slices.Equal(got.Differ, c.want) || got.Err != nil {
			t.Errorf("%s: %v, %v, %v, want %v", name, got.Differ, got.Err, err, c.want)
		}
	}
}

// What cannot be read is told, and the rest is compared. What is the same on both sides is
// not read, so it may be damaged.
func TestRangesOfDamage(t *testing.T) {
	a := noise(1, 6*chunkSize)
	b := bytes.Clone(a)
	b[10]++
	b[2*chunkSize]++
	b[5*chunkSize]++
	s, digests := images(t, a, b)
	for _, d := range [][32]byte{digests[0][2], digests[0][4]} {
		s.Remove(storetest.ChunkFile(d))
	}
	x, y := sides(t, s, "vm/100/"+first+"/disk.img", "vm/100/"+second+"/disk.img")
	got, err := compare.RangesOf(t.Context(), x, y)
	if err != nil || !errors.Is(got.Err, store.ErrCorrupt) {
		t.Errorf("%v, %v, want damage", err, got.Err)
	}
	if want := []compare.Range{{0, 4096}, {5 * chunkSize, 4096}}; !slices.Equal(got.Differ, want) {
		t.Errorf("differ: %v, want %v", got.Differ, want)
	}
	if want := []compare.Range{{2 * chunkSize, chunkSize}}; !slices.Equal(got.Unread, want) {
		t.Errorf("unread: %v, want %v", got.Unread, want)
	}
}

// Contents that are cut differently, or encrypted with different keys, are read.
func TestSameContentIsReadWhereDigestsDoNotTell(t *testing.T) {
	data := string(noise(3, 3000))
	one, two := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	for name, c := range map[string]struct {
		before string
		data   string
		key    *storetest.Key
		want   bool
	}{
		"cut differently":             {"longer than it was", data, nil, true},
		"cut differently, and other":  {"longer than it was", data[:2999] + "!", nil, false},
		"with a key":                  {"", data, one, true},
		"with a key, and other":       {"", data[:2999] + "!", one, false},
		"with another key":            {"", data, two, true},
		"with another key, and other": {"", "!" + data[1:], two, false},
	} {
		s := storetest.New(t)
		for i, root := range []*storetest.Node{
			storetest.Dir("", storetest.File("a", ""), storetest.File("file", data)),
			storetest.Dir("", storetest.File("a", c.before), storetest.File("file", c.data)),
		} {
			sn := s.Snapshot("host/alpha", []string{first, second}[i])
			switch {
			case c.key != nil && i == 1:
				sn.Key = c.key
			case c.key == two:
				sn.Key = one
			}
			sn.Pxar("root.pxar.didx", root)
			sn.Finish()
		}
		x, y := sides(t, s, "host/alpha/"+first+"/root.pxar/file", "host/alpha/"+second+"/root.pxar/file", one, two)
		if got, err := compare.SameContent(t.Context(), x, y); got != c.want || err != nil {
			t.Errorf("%s: %t, %v, want %t", name, got, err, c.want)
		}
	}
}

// Moved is a file that has kept size, time and content, and its name unless it is the only
// one.
func TestMoves(t *testing.T) {
	file := func(name, data string, sec int64) *storetest.Node {
		n := storetest.File(name, data)
		n.Sec = sec
		return n
	}
	dir := storetest.Dir
	for name, c := range map[string]struct {
		old, is *storetest.Node
		want    []string
	}{
		"to another directory": {dir("", dir("a", file("f", "x", 1)), dir("b")), dir("", dir("a"), dir("b", file("f", "x", 1))), []string{"R a/f b/f"}},
		"to another name":      {dir("", file("f", "x", 1)), dir("", file("g", "x", 1)), []string{"R f g"}},
		"other content":        {dir("", file("f", "x", 1)), dir("", file("g", "y", 1)), []string{"D f", "A g"}},
		"another time":         {dir("", file("f", "x", 1)), dir("", file("g", "x", 2)), []string{"D f", "A g"}},
		"two might have been": {
			dir("", file("e", "x", 1), file("f", "x", 1)), dir("", file("g", "x", 1)), []string{"D e", "D f", "A g"},
		},
		"the nearest of two": {
			dir("", dir("a", file("f", "x", 1)), dir("b", dir("c", file("f", "x", 1)))),
			dir("", dir("a"), dir("b", dir("c"), dir("d", file("f", "x", 1)))),
			[]string{"D a/f", "A b/d", "R b/c/f b/d/f"},
		},
		"an empty file": {dir("", file("f", "", 1)), dir("", file("g", "", 1)), []string{"D f", "A g"}},
	} {
		s := storetest.New(t)
		for i, root := range []*storetest.Node{c.old, c.is} {
			sn := s.Snapshot("host/alpha", []string{first, second}[i])
			sn.Pxar("root.pxar.didx", root)
			sn.Finish()
		}
		x, y := sides(t, s, "host/alpha/"+first+"/root.pxar", "host/alpha/"+second+"/root.pxar")
		var got []string
		m := &compare.Moves{A: x.Right, B: y.Right, Fn: func(c compare.Change) error {
			line := string(rune(c.Kind)) + " "
			if c.From != "" {
				line += c.From + " "
			}
			got = append(got, line+c.Path)
			return nil
		}}
		err := compare.Trees(t.Context(), x, y, compare.Options{
			Problem: func(p string, err error) { t.Errorf("%s: %s: %v", name, p, err) }, Seen: func() {},
		}, m.Add)
		if err == nil {
			err = m.Finish(t.Context())
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
