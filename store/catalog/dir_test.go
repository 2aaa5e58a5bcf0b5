package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// readDirs lists the archive as list does, directory by directory.
func readDirs(stream []byte, archive string) (lines []string, err error) {
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		return nil, err
	}
	top, err := c.ReadDir(context.Background(), r, c.Root(), maxBlock)
	if err != nil {
		return nil, err
	}
	budget := 10 * len(stream) // directories can be shared
	var dir func(path string, p Place) error
	dir = func(path string, p Place) error {
		if budget--; budget < 0 {
			return nil
		}
		d, err := c.ReadDir(context.Background(), r, p, maxBlock)
		if err != nil {
			return err
		}
		for i := range d.Len() {
			name, kind := d.At(i)
			lines = append(lines, fmt.Sprintf("%s %s", kind, path+name))
			if kind != Dir {
				continue
			}
			if p := d.Child(name); p != (Place{}) {
				if err := dir(path+name+"/", p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return lines, dir("", top.Child(archive))
}

func TestReadDirFindsWhatWalkVisits(t *testing.T) {
	for what, stream := range map[string][]byte{
		"nested":  encode(dir(rootArchive, file("z", 1, 2), dir("a", dir("b", other("c", HardLink)), file("e", 0, 0)), dir("empty"), other("s", Socket))),
		"bad":     encode(dir(rootArchive, dir("..", file("x", 1, 1)), file("a/b", 1, 1), file("", 1, 1), file("ok", 1, 1))),
		"second":  encode(dir("etc.pxar.didx", file("other", 1, 2)), dir(rootArchive, file("this", 1, 2))),
		"archive": encode(dir(rootArchive)),
	} {
		walked, err := list(stream, rootArchive)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, line := range walked { // without size and time
			want = append(want, strings.Join(strings.Fields(line)[:2], " "))
		}
		if got, err := readDirs(stream, rootArchive); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
}

func TestReadDirRefuses(t *testing.T) {
	stream := encode(dir(rootArchive, file("a", 1, 1)), other("link", Symlink), file("file", 1, 1))
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	top, err := c.ReadDir(t.Context(), r, c.Root(), maxBlock)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]Place{"what is no directory": top.Child("link"), "what is not there": top.Child("none"), "a file": top.Child("file"), "outside": {start: 8, limit: 1 << 40}}
	for what, p := range places {
		if _, err := c.ReadDir(t.Context(), r, p, maxBlock); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: ReadDir = %v, want a corrupt error", what, err)
		}
	}
	if _, err := c.ReadDir(t.Context(), r, c.Root(), 5); !errors.Is(err, corrupt.Err) {
		t.Errorf("larger than asked for: %v, want a corrupt error", err)
	}
	// A block that ends behind the beginning of its parent: see TestChildMustEndBeforeItsParent.
	for _, hostile := range [][]byte{
		frame(10, unhex(t, "09 00 06 01 64 01 61 02 00")),
		frame(10, append([]byte{1, 0}, unhex(t, "05 01 64 01 61 00")...)), // its own parent
	} {
		if got, err := readDirs(hostile, "a"); !errors.Is(err, corrupt.Err) {
			t.Errorf("%x: %q, %v, want a corrupt error", hostile, got, err)
		}
	}
}

func TestFirstEntryOfANameCounts(t *testing.T) {
	stream := encode(dir(rootArchive, file("first", 1, 1)), dir(rootArchive, file("second", 1, 1)))
	if got, err := readDirs(stream, rootArchive); err != nil || !slices.Equal(got, []string{"f first"}) {
		t.Errorf("%q, %v, want that of the first", got, err)
	}
}

func TestReadDirStopsWithItsContext(t *testing.T) {
	files := make([]node, 2*checkEvery)
	for i := range files {
		files[i] = file(fmt.Sprint(i), 1, 1)
	}
	stream := encode(files...)
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.ReadDir(ctx, r, c.Root(), maxBlock); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadDir = %v, want Canceled", err)
	}
}

func FuzzReadDir(f *testing.F) {
	f.Add(encode(dir(rootArchive, dir("a", dir("b", other("c", HardLink))), file("..", 1, 1))))
	f.Add(encode(dir("other"), dir(rootArchive, nested(20))))
	f.Add(frame(10, []byte{1, 0, 5, 1, 'd', 1, 'a', 2}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		lines, err := readDirs(stream, rootArchive)
		if err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatalf("error is not corrupt: %v", err)
		}
		for _, line := range lines {
			if strings.Contains(line, "\x00") || strings.Contains(line, "//") {
				t.Fatalf("unusable name in %q", line)
			}
		}
	})
}
