package tree_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

const morning = "2023-11-14T06:00:00Z"

// manyGroups is a datastore with groups in three namespaces.
func manyGroups(t *testing.T) *storetest.Store {
	s := storetest.New(t)
	for _, at := range []struct{ group, time string }{
		{"vm/9", morning},
		{"vm/10", evening},
		{"vm/10", morning},
		{"host/alpha", morning},
		{"ns/prod/host/alpha", evening},
		{"ns/prod/ns/db/ct/1", morning},
	} {
		sn := s.Snapshot(at.group, at.time)
		sn.Blob("a.conf.blob", []byte("x"))
		sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.Dir("etc", storetest.File("hosts", ""), storetest.File("fstab", ""))))
		sn.Finish()
	}
	s.Mkdir("vm/10/2023-11-15T00:00:00Z") // not finished
	return s
}

func TestSnapshotsBelow(t *testing.T) {
	v := open(t, manyGroups(t))
	tests := []struct {
		at   string
		want []string
	}{
		{"", []string{"vm/9/" + morning, "vm/10/" + morning, "vm/10/" + evening, "host/alpha/" + morning, "ns/prod/host/alpha/" + evening, "ns/prod/ns/db/ct/1/" + morning}},
		{"vm", []string{"vm/9/" + morning, "vm/10/" + morning, "vm/10/" + evening}},
		{"ns", []string{"ns/prod/host/alpha/" + evening, "ns/prod/ns/db/ct/1/" + morning}},
		{"ns/prod/ns", []string{"ns/prod/ns/db/ct/1/" + morning}},
		{"vm/10", []string{"vm/10/" + morning, "vm/10/" + evening}},
		{"vm/10/" + evening, []string{"vm/10/" + evening}},
		{"vm/10/" + evening + "/root.pxar/etc", []string{"vm/10/" + evening}},
	}
	for _, tt := range tests {
		var got []string
		err := tree.Snapshots(t.Context(), v.r, v.walk(tt.at), func(s name.Snapshot) error {
			got = append(got, strings.TrimPrefix(s.String(), "./"))
			return nil
		})
		slices.Sort(got)
		slices.Sort(tt.want)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Snapshots(%q) = %q, %v; want %q", tt.at, got, err, tt.want)
		}
	}
}

func TestSnapshotsThatCannotBeListed(t *testing.T) {
	s := manyGroups(t)
	v := open(t, s)
	// A name too many: the directory of the groups is none.
	if err := os.RemoveAll(s.Dir + "/vm"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("host", s.Dir+"/vm"); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := tree.Snapshots(t.Context(), v.r, v.Root(), func(name.Snapshot) error { n++; return nil })
	if err != nil || n != 3 { // a symbolic link is no type, as for the server
		t.Errorf("%d snapshots, %v; want 3", n, err)
	}
	want := errors.New("enough")
	if err := tree.Groups(t.Context(), v.r, v.Root(), func(name.Group) error { return want }); !errors.Is(err, want) {
		t.Errorf("Groups: %v, want %v", err, want)
	}
}

func TestNearest(t *testing.T) {
	v := open(t, manyGroups(t))
	tests := []struct {
		path, dir, name, first string
		ok                     bool
	}{
		{path: "host/alpha", ok: false},
		{path: "hots/alpha", dir: "", name: "hots", first: "host", ok: true},
		{path: "vm/11", dir: "vm", name: "11", first: "10", ok: true},
		{path: "/vm/10/latest/root/etc", dir: "vm/10/latest", name: "root", first: "root.pxar", ok: true},
		{path: "vm/10/latest/root.pxar/etc/fstap", dir: "vm/10/latest/root.pxar/etc", name: "fstap", first: "fstab", ok: true},
		{path: "vm/10/latest/a.conf/x", ok: false}, // not a directory
	}
	for _, tt := range tests {
		m, ok := v.Nearest(t.Context(), v.r, tt.path)
		if ok != tt.ok || ok && (m.Dir != tt.dir || m.Name != tt.name || m.Near[0] != tt.first) {
			t.Errorf("Nearest(%q) = %+v, %v; want %+v", tt.path, m, ok, tt)
		}
	}
}
