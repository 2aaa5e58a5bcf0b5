package name

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// safeIDs and unsafeIDs are the cases of the "safe id" of reference
// "datastore-layout", section 2.
var (
	safeIDs   = []string{"a", "0", "_", "A", "100", "a.b", "a-b", "a..b", "_.", "_-", "x" + strings.Repeat("y", 200)}
	unsafeIDs = []string{"", ".", "..", ".a", "-", "-a", "a/b", "/", "a b", "a\x00", "a\n", "ä", "a\xff", "a:b", "a\\b", "a%"}
)

func TestParseNamespace(t *testing.T) {
	for _, id := range safeIDs {
		ns, err := ParseNamespace(id)
		if err != nil || ns.String() != id || ns.Depth() != 1 || ns.Base() != id || ns.Dir() != "ns/"+id || !ns.Parent().IsRoot() {
			t.Errorf("ParseNamespace(%q) = %+v, %v", id, ns, err)
		}
	}
	for _, id := range unsafeIDs {
		if id == "" {
			continue // the root
		}
		for _, s := range []string{id, "a/" + id, id + "/a"} {
			if id == "a/b" {
				continue // two components
			}
			if ns, err := ParseNamespace(s); !errors.Is(err, ErrInvalid) || ns != (Namespace{}) {
				t.Errorf("ParseNamespace(%q) = %+v, %v, want ErrInvalid", s, ns, err)
			}
		}
	}
	for _, s := range []string{"/a", "a/", "a//b", "/"} {
		if _, err := ParseNamespace(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseNamespace(%q) = %v, want ErrInvalid", s, err)
		}
	}
}

func TestNamespaceTree(t *testing.T) {
	root, err := ParseNamespace("")
	if err != nil || root != (Namespace{}) || !root.IsRoot() || root.Dir() != "." || root.Depth() != 0 || root.Base() != "" || root.Parent() != root {
		t.Errorf("root = %+v, %v", root, err)
	}
	ns, err := ParseNamespace("a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	if ns.Dir() != "ns/a/ns/b/ns/c" || ns.Depth() != 3 || ns.Base() != "c" || ns.Parent().String() != "a/b" {
		t.Errorf("%s: dir %s, depth %d, base %s, parent %s", ns, ns.Dir(), ns.Depth(), ns.Base(), ns.Parent())
	}
	if _, err := ns.Child("d/e"); !errors.Is(err, ErrInvalid) {
		t.Errorf("Child with a slash: %v, want ErrInvalid", err)
	}
}

func TestNamespaceDepthIsLimitedTo7(t *testing.T) {
	if ns, err := ParseNamespace("1/2/3/4/5/6/7"); err != nil || ns.Depth() != MaxDepth {
		t.Errorf("depth 7: %+v, %v", ns, err)
	}
	if ns, err := ParseNamespace("1/2/3/4/5/6/7/8"); !errors.Is(err, ErrInvalid) {
		t.Errorf("depth 8: %+v, %v, want ErrInvalid", ns, err)
	}
}

func TestNamespaceLengthIsLimitedTo256(t *testing.T) {
	first := strings.Repeat("a", 100)
	for _, tt := range []struct {
		length int
		ok     bool
	}{{255, true}, {256, true}, {257, false}} {
		s := first + "/" + strings.Repeat("b", tt.length-len(first)-1)
		ns, err := ParseNamespace(s)
		if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, ErrInvalid) {
			t.Errorf("length %d: %+v, %v, want ok %v", len(s), ns, err, tt.ok)
		}
	}
	if ns, err := ParseNamespace(strings.Repeat("a", 257)); !errors.Is(err, ErrInvalid) {
		t.Errorf("one component of 257: %+v, %v, want ErrInvalid", ns, err)
	}
}

func TestParseType(t *testing.T) {
	for _, typ := range Types() {
		if got, err := ParseType(string(typ)); err != nil || got != typ {
			t.Errorf("ParseType(%q) = %q, %v", typ, got, err)
		}
	}
	for _, s := range []string{"", "VM", "lxc", "vm ", "ns", "vm/"} {
		if got, err := ParseType(s); !errors.Is(err, ErrInvalid) || got != "" {
			t.Errorf("ParseType(%q) = %q, %v, want ErrInvalid", s, got, err)
		}
	}
}

func TestNewGroup(t *testing.T) {
	ns, err := ParseNamespace("prod/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range safeIDs {
		g, err := NewGroup(ns, Host, id)
		if err != nil || g.ID() != id || g.Type() != Host || g.Namespace() != ns || g.Dir() != "ns/prod/ns/db/host/"+id || g.String() != g.Dir() {
			t.Errorf("NewGroup(%q) = %s, %v", id, g, err)
		}
	}
	for _, id := range append(unsafeIDs, strings.Repeat("a", 256)) {
		if g, err := NewGroup(ns, Host, id); !errors.Is(err, ErrInvalid) || g != (Group{}) {
			t.Errorf("NewGroup(%q) = %s, %v, want ErrInvalid", id, g, err)
		}
	}
	if _, err := NewGroup(ns, "lxc", "1"); !errors.Is(err, ErrInvalid) {
		t.Errorf("NewGroup of an unknown type: %v, want ErrInvalid", err)
	}
	if g, err := NewGroup(Namespace{}, VM, strings.Repeat("1", 255)); err != nil || !strings.HasPrefix(g.Dir(), "vm/111") {
		t.Errorf("group in the root: %s, %v", g, err)
	}
}

// Other names of the same instant exist in what the server's parser takes, but
// the server looks for the one name only.
func TestParseTimeAcceptsOneNamePerInstant(t *testing.T) {
	for s, sec := range map[string]int64{
		"1970-01-01T00:00:00Z": 0,
		"2023-11-14T23:13:20Z": 1700003600,
		"2024-02-29T23:59:59Z": 1709251199,
		"1969-12-31T23:59:59Z": -1,
		"0000-01-01T00:00:00Z": -62167219200,
		"9999-12-31T23:59:59Z": 253402300799,
	} {
		got, err := ParseTime(s)
		if err != nil || got.Unix() != sec || got.String() != s || !got.Time().Equal(time.Unix(sec, 0)) {
			t.Errorf("ParseTime(%q) = %d, %v, want %d", s, got.Unix(), err, sec)
		}
		if again, err := NewTime(time.Unix(sec, 0)); err != nil || again != got {
			t.Errorf("NewTime(%d) = %s, %v, want %s", sec, again, err, s)
		}
	}
	for _, s := range []string{
		"",
		"2024-00-10T00:00:00Z", // month 00
		"2024-13-10T00:00:00Z",
		"2024-01-00T00:00:00Z", // day 00
		"2024-02-31T00:00:00Z", // 2 March
		"2023-02-29T00:00:00Z",
		"2024-04-31T00:00:00Z",
		"2024-01-01T24:00:00Z",
		"2024-01-01T00:60:00Z",
		"2024-01-01T00:00:60Z", // leap second
		"2024-1-1T0:0:0Z",
		"2024-01-01T00:00:00",
		"2024-01-01T00:00:00z",
		"2024-01-01t00:00:00Z",
		"2024-01-01 00:00:00Z",
		"2024-01-01T00:00:00+00:00",
		"2024-01-01T00:00:00.5Z",
		"2024-01-01T00:00:00,5Z",
		"2024-01-01T00:00:00.000Z",
		" 2024-01-01T00:00:00Z",
		"2024-01-01T00:00:00Z ",
		"2024-01-01T00:00:00Z\n",
		"+024-01-01T00:00:00Z",
		"-001-01-01T00:00:00Z",
		"10000-01-01T00:00:00Z",
	} {
		if got, err := ParseTime(s); !errors.Is(err, ErrInvalid) || got != (Time{}) {
			t.Errorf("ParseTime(%q) = %s, %v, want ErrInvalid", s, got, err)
		}
	}
}

func TestNewTime(t *testing.T) {
	zone := time.FixedZone("", 3600)
	got, err := NewTime(time.Date(2024, 1, 1, 0, 30, 0, 999, zone))
	if err != nil || got.String() != "2023-12-31T23:30:00Z" {
		t.Errorf("NewTime in another zone = %s, %v", got, err)
	}
	for _, sec := range []int64{-62167219201, 253402300800, math.MinInt64, math.MaxInt64} {
		if got, err := NewTime(time.Unix(sec, 0)); !errors.Is(err, ErrInvalid) {
			t.Errorf("NewTime(%d) = %s, %v, want ErrInvalid", sec, got, err)
		}
	}
	if got := (Time{}).String(); got != "" {
		t.Errorf("zero Time = %q, want nothing", got)
	}
	if zero := (Time{}); func() bool { epoch, _ := NewTime(time.Unix(0, 0)); return epoch == zero }() {
		t.Error("the epoch equals the zero Time")
	}
}

func TestNewSnapshot(t *testing.T) {
	g, err := NewGroup(Namespace{}, CT, "101")
	if err != nil {
		t.Fatal(err)
	}
	at, err := ParseTime("2023-11-15T23:13:20Z")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSnapshot(g, at)
	if err != nil || s.Dir() != "ct/101/2023-11-15T23:13:20Z" || s.String() != s.Dir() || s.Group() != g || s.Time() != at {
		t.Errorf("NewSnapshot = %s, %v", s, err)
	}
	if _, err := NewSnapshot(Group{}, at); !errors.Is(err, ErrInvalid) {
		t.Errorf("snapshot of the zero group: %v, want ErrInvalid", err)
	}
	if _, err := NewSnapshot(g, Time{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("snapshot at the zero time: %v, want ErrInvalid", err)
	}
}

func TestParseFile(t *testing.T) {
	tests := []struct {
		stored  string
		format  Format
		stem    string
		content Content
		archive string
	}{
		{"root.pxar.didx", Dynamic, "root.pxar", Pxar, "root.pxar"},
		{"root.mpxar.didx", Dynamic, "root.mpxar", PxarMeta, "root.pxar"},
		{"root.ppxar.didx", Dynamic, "root.ppxar", PxarPayload, "root.pxar"},
		{"catalog.pcat1.didx", Dynamic, "catalog.pcat1", Stream, "catalog.pcat1"},
		{"drive-scsi0.img.fidx", Fixed, "drive-scsi0.img", Stream, "drive-scsi0.img"},
		{"index.json.blob", Blob, "index.json", Stream, "index.json"},
		{"root.pxar.fidx", Fixed, "root.pxar", Stream, "root.pxar"},
		{"root.pxar.blob", Blob, "root.pxar", Stream, "root.pxar"},
		{"a.didx", Dynamic, "a", Stream, "a"},
		{"pxar.didx", Dynamic, "pxar", Stream, "pxar"},
		{"a.didx.didx", Dynamic, "a.didx", Stream, "a.didx"},
		{"_.b.blob", Blob, "_.b", Stream, "_.b"},
	}
	for _, tt := range tests {
		f, err := ParseFile(tt.stored)
		if err != nil || f.Format() != tt.format || f.Stem() != tt.stem || f.Content() != tt.content || f.ArchiveName() != tt.archive || f.String() != tt.stored {
			t.Errorf("ParseFile(%q) = %v, %v: format %s, stem %q, content %d, archive %q", tt.stored, f, err, f.Format(), f.Stem(), f.Content(), f.ArchiveName())
		}
	}
	for _, s := range []string{
		"", ".blob", ".didx", "blob", "a.blob ", "a.BLOB", "a.blob.tmp", "index.json.blob.tmp_ab12Cd", "index.json.tmp",
		"a.tmp_didx", "a", "../a.blob", "a/b.blob", "-a.blob", ".a.blob", "a\x00.blob", "ä.blob", strings.Repeat("a", 251) + ".blob",
	} {
		if f, err := ParseFile(s); !errors.Is(err, ErrInvalid) || f != (File{}) {
			t.Errorf("ParseFile(%q) = %v, %v, want ErrInvalid", s, f, err)
		}
	}
	if _, err := ParseFile(strings.Repeat("a", 250) + ".blob"); err != nil {
		t.Errorf("name of 255 bytes: %v", err)
	}
}

func TestWellKnownFilesAreWhatParseFileGives(t *testing.T) {
	for _, f := range []File{Manifest, ClientLog, Catalog, EncryptedKey} {
		if got, err := ParseFile(f.String()); err != nil || got != f {
			t.Errorf("ParseFile(%q) = %v, %v, want the same value", f, got, err)
		}
	}
}

func TestPayloadBelongsToMetadata(t *testing.T) {
	for stored, want := range map[string]string{
		"root.mpxar.didx": "root.ppxar.didx", "root.ppxar.didx": "", "root.pxar.didx": "", "root.mpxar.blob": "",
	} {
		f, err := ParseFile(stored)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := f.Payload()
		if ok != (want != "") || got.String() != want {
			t.Errorf("Payload of %s = %q, %v, want %q", f, got, ok, want)
		}
		if again, err := ParseFile(want); ok && (err != nil || again != got) {
			t.Errorf("Payload of %s is not what ParseFile gives: %v", f, err)
		}
	}
}

func TestParseDigest(t *testing.T) {
	good := "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"
	d, err := ParseDigest(good)
	if err != nil || d.String() != good || d.Prefix() != "bb9f" {
		t.Errorf("ParseDigest(%s) = %s, %v, prefix %s", good, d, err, d.Prefix())
	}
	for _, s := range []string{"", good[1:], good + "0", strings.ToUpper(good), good[1:] + "g", good + ".0.bad"} {
		if d, err := ParseDigest(s); err == nil || d != (Digest{}) {
			t.Errorf("ParseDigest(%q) = %s, %v, want an error", s, d, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range append(append([]string{
		"a/b/c", "1/2/3/4/5/6/7/8", "2024-02-31T00:00:00Z", "2023-11-14T23:13:20Z", "root.mpxar.didx", "vm",
		"bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8",
	}, safeIDs...), unsafeIDs...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		same := func(what fmt.Stringer, err error) {
			if err == nil && what.String() != s {
				t.Errorf("%T of %q is %q", what, s, what)
			}
		}
		ns, err := ParseNamespace(s)
		same(ns, err)
		at, err := ParseTime(s)
		same(at, err)
		file, err := ParseFile(s)
		same(file, err)
		digest, err := ParseDigest(s)
		same(digest, err)
		if typ, err := ParseType(s); err == nil && string(typ) != s {
			t.Errorf("type of %q is %q", s, typ)
		}
		if g, err := NewGroup(ns, VM, s); err == nil && (g.ID() != s || strings.ContainsAny(s, "/\x00") || s[0] == '.') {
			t.Errorf("group of id %q is %s", s, g)
		}
	})
}

func TestFilesOf(t *testing.T) {
	for _, tt := range []struct {
		stem  string
		split bool
		want  []string
	}{
		{"root.pxar", false, []string{"root.pxar.didx"}},
		{"root.pxar", true, []string{"root.mpxar.didx", "root.ppxar.didx"}},
		{"drive-scsi0.img", false, []string{"drive-scsi0.img.fidx"}},
		{"drive-scsi0.img", true, []string{"drive-scsi0.img.fidx"}},
		{"qemu-server.conf", true, []string{"qemu-server.conf.blob"}},
		{"../x.pxar", false, nil},
		{"", false, nil},
	} {
		files, err := FilesOf(tt.stem, tt.split)
		var got []string
		for _, f := range files {
			got = append(got, f.String())
			if f.ArchiveName() != tt.stem {
				t.Errorf("%s: archive name of %s is %s", tt.stem, f, f.ArchiveName())
			}
		}
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("FilesOf(%q, %v) = %q, %v, want %q", tt.stem, tt.split, got, err, tt.want)
		}
	}
}
