package pxar

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// encodedSplit makes a split archive of a directory d with a file, behind another file.
func encodedSplit(t *testing.T, before, content string, mtime int64) (*Archive, []byte, Dir) {
	t.Helper()
	var meta, payload bytes.Buffer
	e, err := NewSplitEncoder(&meta, &payload, nil, &Metadata{Mode: TypeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	add := func(name, data string, sec int64) error {
		_, err := e.AddFile(name, &Metadata{Mode: TypeRegular | 0o644, Mtime: Timestamp{Sec: sec}}, int64(len(data)), bytes.NewReader([]byte(data)))
		return err
	}
	if err := errors.Join(add("a", before, 1), e.StartDir("d", &Metadata{Mode: TypeDir | 0o755}), add("f", content, mtime), e.EndDir(), e.Close()); err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(meta.Bytes())
	a, err := Open(r, int64(meta.Len()))
	if err != nil {
		t.Fatal(err)
	}
	table, err := a.ReadTable(r, a.Root())
	if err != nil {
		t.Fatal(err)
	}
	c, err := table.Lookup(r, "d")
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.ReadEntry(r, c)
	if err != nil {
		t.Fatal(err)
	}
	return a, meta.Bytes(), d.Dir
}

// What is written of a directory does not depend on where its contents lie, and on nothing
// else is it silent.
func TestMetadataWithoutPlaces(t *testing.T) {
	written := func(a *Archive, b []byte, d Dir) string {
		var out bytes.Buffer
		if err := a.WriteMetadata(t.Context(), bytes.NewReader(b), d, &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	want := written(encodedSplit(t, "x", "content", 7))
	for name, c := range map[string]struct {
		before, content string
		mtime           int64
		same            bool
	}{
		"moved":           {"much longer", "content", 7, true},
		"another content": {"x", "CONTENT", 7, true},
		"another size":    {"x", "contents", 7, false},
		"another time":    {"x", "content", 8, false},
	} {
		if got := written(encodedSplit(t, c.before, c.content, c.mtime)); (got == want) != c.same {
			t.Errorf("%s: the same %t, want %t", name, got == want, c.same)
		}
	}
}

// Contents are asked for, in pairs; what cannot be read is not alike.
func TestAlikeAsksForContents(t *testing.T) {
	a, b, d := encodedSplit(t, "x", "content", 7)
	a2, b2, d2 := encodedSplit(t, "longer", "content", 7)
	x, y := Part{a, bytes.NewReader(b), d}, Part{a2, bytes.NewReader(b2), d2}
	broken := bytes.Clone(b2)
	broken[d2.entry+15] ^= 0x7f // the length of its first item
	for name, c := range map[string]struct {
		y    Part
		say  bool
		want bool
	}{"the same": {y, true, true}, "another content": {y, false, false}, "damaged": {Part{a2, bytes.NewReader(broken), d2}, true, false}} {
		asked := 0
		got, err := Alike(context.Background(), x, c.y, func(p, q Payload) (bool, error) {
			asked++
			if p.Off == q.Off || p.Size != 7 || q.Size != 7 {
				t.Errorf("%s: asked for %+v and %+v", name, p, q)
			}
			return c.say, nil
		})
		if got != c.want || err != nil || asked > 1 {
			t.Errorf("%s: %t, %v after %d questions, want %t", name, got, err, asked, c.want)
		}
	}
	if err := a2.WriteMetadata(t.Context(), bytes.NewReader(broken), d2, new(bytes.Buffer)); !errors.Is(err, corrupt.Err) {
		t.Errorf("damaged: %v, want %v", err, corrupt.Err)
	}
}
