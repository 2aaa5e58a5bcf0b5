package source

import (
	"encoding/binary"
	"slices"
	"testing"
)

// dirent makes an entry as the kernel does.
func dirent(ino uint64, name string) []byte {
	n := (direntName + len(name) + 1 + 7) &^ 7
	b := make([]byte, n)
	binary.NativeEndian.PutUint64(b, ino)
	binary.NativeEndian.PutUint16(b[direntLength:], uint16(n))
	copy(b[direntName:], name)
	return b
}

func TestNamesOfDirectoryEntries(t *testing.T) {
	torn := dirent(9, "torn")
	for what, c := range map[string]struct {
		buf  []byte
		want []string
	}{
		"nothing":               {nil, nil},
		"usual":                 {slices.Concat(dirent(1, "."), dirent(2, ".."), dirent(3, "a"), dirent(4, "..a")), []string{"a", "..a"}},
		"without inode numbers": {slices.Concat(dirent(0, "."), dirent(0, "a"), dirent(0, ".."), dirent(0, "bcdefghi")), []string{"a", "bcdefghi"}},
		"cut":                   {slices.Concat(dirent(3, "a"), torn[:len(torn)-1]), []string{"a"}},
		"no length":             {slices.Concat(dirent(3, "a"), make([]byte, 64)), []string{"a"}},
		"no name":               {slices.Concat(dirent(3, ""), dirent(4, "b")), []string{"b"}},
	} {
		if got := appendNames(nil, c.buf); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}

func FuzzAppendNames(f *testing.F) {
	f.Add(slices.Concat(dirent(1, "."), dirent(0, "name")))
	f.Fuzz(func(t *testing.T, buf []byte) {
		total := 0
		for _, name := range appendNames(nil, buf) {
			if total += len(name); name == "" || total > len(buf) {
				t.Errorf("name %q", name)
			}
		}
	})
}
