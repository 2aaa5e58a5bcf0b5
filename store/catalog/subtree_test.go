package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// listed walks a subtree, and returns a line for each entry.
func listed(c *Catalog, b []byte, t Subtree, path string) (out []string, err error) {
	err = c.Entries(context.Background(), bytes.NewReader(b), t, func(e Entry, below Subtree) error {
		out = append(out, fmt.Sprintf("%s/%s %s %d %d", path, e.Name, e.Kind, e.Size, e.Mtime))
		if e.Kind != Dir {
			return nil
		}
		more, err := listed(c, b, below, path+"/"+e.Name)
		out = append(out, more...)
		return err
	})
	return out, err
}

// Equal trees are equal bytes, wherever they lie, and their range has them all.
func TestSubtreesAreRanges(t *testing.T) {
	special := dir("special", file("a", 300, 7), dir("deep", file("b", 1, -5), other("l", Symlink)), dir("empty"))
	one := encode(dir("x.pxar.didx", dir("first", file("f", 1, 1)), special, file("z", 1, 1)))
	two := encode(dir("w.pxar.didx", file("f", 1, 1)), dir("x.pxar.didx", dir("another", dir("dir"), file("long name", 9, 9)), special))
	var ranges [][]byte
	for _, b := range [][]byte{one, two} {
		c, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		root, err := c.Archive(t.Context(), bytes.NewReader(b), "x.pxar.didx")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Entries(t.Context(), bytes.NewReader(b), root, func(e Entry, below Subtree) error {
			if e.Name != "special" {
				return nil
			}
			begin, end, ok := below.Range()
			if !ok {
				t.Error("the range is not known")
			}
			ranges = append(ranges, b[begin:end])
			got, err := listed(c, b, below, "")
			if want := "/a f 300 7, /deep d 0 0, /deep/b f 1 -5, /deep/l l 0 0, /empty d 0 0"; strings.Join(got, ", ") != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Archive(t.Context(), bytes.NewReader(b), "none.pxar.didx"); !errors.Is(err, corrupt.Err) {
			t.Errorf("an archive that is not listed: %v", err)
		}
	}
	if len(ranges) != 2 || !bytes.Equal(ranges[0], ranges[1]) {
		t.Errorf("got %x, want the same bytes twice", ranges)
	}
}

// A small catalog cannot describe an endless tree, nor one that is endlessly deep.
func TestSubtreesEnd(t *testing.T) {
	// Each directory lists the one before it twice.
	out := magic[:len(magic):len(magic)]
	var start int64
	for i := range 60 {
		at := int64(len(out))
		var records []record
		if i > 0 {
			for _, n := range []string{"a", "b"} {
				records = append(records, record{Entry{Name: n, Kind: Dir}, start})
			}
		}
		table := appendTable(nil, records, at)
		out, start = append(appendUnsigned(out, uint64(len(table))), table...), at
	}
	at := int64(len(out))
	table := appendTable(nil, []record{{Entry{Name: "x.pxar.didx", Kind: Dir}, start}}, at)
	out = append(appendUnsigned(out, uint64(len(table))), table...)
	doubled := frame(uint64(at), out[len(magic):])
	deep := dir("d")
	for range maxDepth + 10 {
		deep = dir("d", deep)
	}
	deep.Name = "x.pxar.didx"
	for name, b := range map[string][]byte{"doubled": doubled, "deep": encode(deep)} {
		c, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		root, err := c.Archive(t.Context(), bytes.NewReader(b), "x.pxar.didx")
		if err == nil {
			_, err = listed(c, b, root, "")
		}
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v, want %v", name, err, corrupt.Err)
		}
	}
}

// No bytes make a listing fail otherwise, or go on for ever.
func FuzzSubtree(f *testing.F) {
	f.Add(encode(dir("x.pxar.didx", dir("d", file("f", 1, 1)), other("h", HardLink))))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		root, err := c.Archive(t.Context(), bytes.NewReader(b), "x.pxar.didx")
		if err == nil {
			_, err = listed(c, b, root, "")
		}
		if err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("got %v", err)
		}
	})
}
