package mounts

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMountinfo(t *testing.T) {
	const text = `36 35 98:0 / /a\040b\134c rw,noatime master:1 propagate_from:2 - fuse.pbsfs /dev/x\011y rw,errors=continue
garbage
37 36 0:55 /sub /d ro - tmpfs none rw
`
	got, err := parseMountinfo(strings.NewReader(text))
	want := []Mount{
		{36, 35, 98, 0, "/", `/a b\c`, "rw,noatime", "fuse.pbsfs", "/dev/x\ty", "rw,errors=continue", 0, 1},
		{37, 36, 0, 55, "/sub", "/d", "ro", "tmpfs", "none", "rw", 0, 0},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add(`36 35 98:0 / /a\040b\134c rw,noatime master:1 - fuse.pbsfs /dev/x rw`)
	f.Fuzz(func(_ *testing.T, text string) {
		parseMountinfo(strings.NewReader(text))
	})
}
