package mounts

import (
	"slices"
	"strings"
	"testing"
)

// What a path leads to is told by how mounts lie upon each other, not by the order
// of the table, nor by the longest name.
func TestWayThroughAMountTable(t *testing.T) {
	const text = `20 1 8:1 / / rw - ext4 /dev/a rw
30 20 0:30 / /a rw - tmpfs low rw
31 30 0:31 / /a/b rw - fuse.pbsfs tree ro
33 31 0:33 / /a/b rw - tmpfs upon rw
32 31 0:32 / /a/b/c rw - tmpfs inside rw
34 33 0:34 / /a/b rw - tmpfs more rw
40 20 0:40 / /hid/den rw - fuse.pbsfs hidden ro
41 20 0:41 / /hid rw - tmpfs hides rw
50 20 0:50 / /hide rw - tmpfs beside rw
`
	table, err := parseMountinfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]int{
		"/":          {20},
		"/a":         {20, 30},
		"/a/x":       {20, 30},
		"/a/b":       {20, 30, 31, 33, 34},
		"/a/b/c":     {20, 30, 31, 33, 34}, // the mount on it is covered
		"/ab":        {20},
		"/hid/den":   {20, 41},
		"/hide/away": {20, 50},
	} {
		if got := idsOf(table.Way(path)); !slices.Equal(got, want) {
			t.Errorf("the way to %s: got the mounts %v, want %v", path, got, want)
		}
	}
	tree, hiddenTree := table[2], table[6]
	if got := idsOf(table.Upon(tree)); !slices.Equal(got, []int{33, 34}) {
		t.Errorf("upon the tree: got %v", got)
	}
	if got := idsOf(table.Inside(tree)); !slices.Equal(got, []int{32}) {
		t.Errorf("inside of the tree: got %v", got)
	}
	if by, hidden := table.Hides(tree); hidden {
		t.Errorf("the tree is hidden by %v", by)
	}
	if by, ok := table.Hides(hiddenTree); !ok || by.ID != 41 {
		t.Errorf("got %v, %v, want that 41 hides 40", by, ok)
	}
	if m, ok := table.At("/a/b"); !ok || m.ID != 34 {
		t.Errorf("at /a/b: got %v", m)
	}
	if m, ok := table.At("/a/x"); ok {
		t.Errorf("at /a/x: got %v", m)
	}
	moved := tree
	moved.Point, moved.Parent = "/elsewhere", 20
	if now, ok := table.Find(moved); !ok || now.Point != "/a/b" {
		t.Errorf("a mount that was moved: got %v, %v", now, ok)
	}
	another := tree
	another.Source = "another tree"
	if _, ok := table.Find(another); ok {
		t.Error("a mount that got the number of one that has gone is taken for that")
	}
}

func idsOf(mounts []Mount) (ids []int) {
	for _, m := range mounts {
		ids = append(ids, m.ID)
	}
	return ids
}

// The layers of an overlay lead to a tree, or could.
func TestLayersOfAnOverlay(t *testing.T) {
	const text = `20 1 8:1 / / rw - ext4 /dev/a rw
31 20 0:31 / /tmp/w/m rw - fuse.pbsfs tree ro
32 20 0:32 / /tmp/v/n rw - fuse.pbsfs other ro
33 20 0:33 / /tmp/u/n rw - fuse.pbsfs third ro
`
	table, err := parseMountinfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	tree, other := table[1], table[2]
	for options, want := range map[string]bool{
		"rw,lowerdir=/tmp/w/m/host,upperdir=/u,workdir=/k": true,
		"rw,lowerdir=/x:/tmp/w/m":                          true,
		"rw,lowerdir+=/x,lowerdir+=/tmp/w/m/vm":            true,
		"rw,lowerdir=/tmp/w/mm":                            false,
		"rw,lowerdir=/tmp/v/n/host":                        false,
		"rw,lowerdir=m/host/o":                             true,
		"rw,lowerdir=../w/m/host":                          true,
		"rw,lowerdir=host/o":                               false,
		"rw":                                               false,
	} {
		if got := (Mount{FSType: "overlay", SuperOptions: options}).layeredOn(tree, table); got != want {
			t.Errorf("%s: got %v, want %v", options, got, want)
		}
	}
	// Two trees that it could be are none.
	if (Mount{FSType: "overlay", SuperOptions: "rw,lowerdir=n/host"}).layeredOn(other, table) {
		t.Error("one of two trees that a relative name could lead to is taken for the layer")
	}
}
