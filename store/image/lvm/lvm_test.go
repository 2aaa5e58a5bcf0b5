package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

const (
	mib    = 1 << 20
	extent = imagetest.Extent
)

// groupText describes a group on two physical volumes.
func groupText(seqno int) string {
	return imagetest.VolumeGroup(seqno, 2,
		imagetest.LogicalVolume{Name: "root", Segments: []string{imagetest.Striped(0, 2, 0, 0), imagetest.Striped(2, 1, 1, 5)}},
		imagetest.LogicalVolume{Name: "home-data", Segments: []string{imagetest.Striped(0, 1, 0, 3)}},
		imagetest.LogicalVolume{Name: "striped", Segments: []string{imagetest.Striped(0, 4, 0, 4, 1, 0)}},
		imagetest.LogicalVolume{Name: "lvol0_pmspare", Hidden: true, Segments: []string{imagetest.Striped(0, 1, 0, 9)}},
		imagetest.LogicalVolume{Name: "thin", Segments: []string{"start_extent = 0\nextent_count = 100\ntype = \"thin\"\nthin_pool = \"pool\"\n"}},
		imagetest.LogicalVolume{Name: "behind", Segments: []string{imagetest.Striped(0, 4, 1, 8)}},
	)
}

// twoDisks are the physical volumes of the group, filled with noise.
func twoDisks(t *testing.T) [2][]byte {
	t.Helper()
	var disks [2][]byte
	for i := range disks {
		disks[i] = imagetest.PhysicalVolume(i, 10, groupText(3))
		noise := rand.NewChaCha8([32]byte{byte(i)})
		if _, err := noise.Read(disks[i][mib:]); err != nil {
			t.Fatal(err)
		}
	}
	return disks
}

func open(t *testing.T, d []byte) *PhysicalVolume {
	t.Helper()
	pv, err := Open(bytes.NewReader(d), int64(len(d)))
	if err != nil {
		t.Fatal(err)
	}
	return pv
}

// extentOf returns an extent of a disk.
func extentOf(d []byte, n int) []byte { return d[mib+n*extent:][:extent] }

func TestVolumesAreReadFromWhereTheyLie(t *testing.T) {
	disks := twoDisks(t)
	groups := Groups([]*PhysicalVolume{nil, open(t, disks[0]), nil, open(t, disks[1])})
	if len(groups) != 1 || groups[0].Name != "vg-test" || fmt.Sprint(groups[0].Members) != "[1 3]" {
		t.Fatalf("got %+v", groups)
	}
	member := func(i int) io.ReaderAt { return bytes.NewReader(disks[i/2]) }
	want := map[string][]byte{
		"root":      bytes.Join([][]byte{extentOf(disks[0], 0), extentOf(disks[0], 1), extentOf(disks[1], 5)}, nil),
		"home-data": extentOf(disks[0], 3),
	}
	for at := 0; at < 2*extent; at += 128 * sector {
		want["striped"] = append(want["striped"], disks[0][mib+4*extent+at:][:128*sector]...)
		want["striped"] = append(want["striped"], disks[1][mib+at:][:128*sector]...)
	}
	problems := map[string]string{"thin": "thin volumes", "behind": "behind the end"}
	for _, v := range groups[0].Volumes {
		if problem, ok := problems[v.Name]; ok {
			if _, err := v.ReadAt(member, make([]byte, 1), 0); !strings.Contains(v.Problem, problem) || err == nil {
				t.Errorf("%s: %q, reading it gives %v", v.Name, v.Problem, err)
			}
			continue
		}
		if v.Problem != "" || v.Size != int64(len(want[v.Name])) {
			t.Errorf("%s: %q, %d bytes, want %d", v.Name, v.Problem, v.Size, len(want[v.Name]))
			continue
		}
		got := make([]byte, v.Size)
		if n, err := v.ReadAt(member, got, 0); err != nil || n != len(got) || !bytes.Equal(got, want[v.Name]) {
			t.Errorf("%s: %d bytes, %v, right: %t", v.Name, n, err, bytes.Equal(got, want[v.Name]))
		}
		for _, off := range []int64{1, 65535, extent - 3, 2*extent - 1, v.Size - 5} {
			off = min(off, v.Size-1)
			p := make([]byte, 70_000)
			n, err := v.ReadAt(member, p, off)
			if short := off+int64(len(p)) > v.Size; short != errors.Is(err, io.EOF) || !bytes.Equal(p[:n], want[v.Name][off:][:n]) || n == 0 {
				t.Errorf("%s from %d: %d bytes, %v", v.Name, off, n, err)
			}
		}
	}
	if len(groups[0].Volumes) != 5 {
		t.Errorf("%d volumes, want 5: what is not visible is not shown", len(groups[0].Volumes))
	}
}

func TestTheNewestTextCounts(t *testing.T) {
	disks := twoDisks(t)
	old := strings.Replace(groupText(2), "home-data", "gone", 1)
	stale := imagetest.PhysicalVolume(0, 10, old)
	groups := Groups([]*PhysicalVolume{open(t, stale), open(t, disks[1])})
	if len(groups) != 1 || !hasVolume(groups[0], "home-data") || hasVolume(groups[0], "gone") {
		t.Errorf("got %+v", groups)
	}
}

func hasVolume(g Group, name string) bool {
	for _, v := range g.Volumes {
		if v.Name == name {
			return true
		}
	}
	return false
}

func TestADiskThatIsNotThere(t *testing.T) {
	disks := twoDisks(t)
	groups := Groups([]*PhysicalVolume{open(t, disks[0])})
	for _, v := range groups[0].Volumes {
		whole := v.Name == "home-data"
		if missing := strings.Contains(v.Problem, "not in this backup"); v.Name != "thin" && missing == whole {
			t.Errorf("%s: %q", v.Name, v.Problem)
		}
	}
}

func TestDamagedLabelsAndTexts(t *testing.T) {
	good := imagetest.PhysicalVolume(0, 10, groupText(1))
	for what, c := range map[string]struct {
		at   int
		want error
	}{
		"the mark":               {sector, ErrNone},
		"the id":                 {sector + 40, corrupt.Err},
		"the header of the area": {4096 + 50, corrupt.Err},
		"the text":               {4096 + sector + 5, corrupt.Err},
		"the data":               {2 * mib, nil},
	} {
		d := bytes.Clone(good)
		d[c.at] ^= 0x10
		if _, err := Open(bytes.NewReader(d), int64(len(d))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if _, err := Open(bytes.NewReader(good[:1000]), 1000); !errors.Is(err, ErrNone) {
		t.Errorf("a disk of a few bytes: %v", err)
	}
}

func TestTextsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"a", "a =", "a = [", "a = \"", "}", "a {", "= 1", "a = {", "a = [\"x\" \"y\"", strings.Repeat("a {", maxDepth+2), "a = b",
	} {
		if _, err := parseText([]byte(text)); !errors.Is(err, corrupt.Err) {
			t.Errorf("%q: %v, want corrupt data", text, err)
		}
	}
}

func FuzzGroups(f *testing.F) {
	f.Add([]byte(groupText(1)))
	f.Add([]byte("vg { seqno = 1 extent_size = 9223372036854775807 physical_volumes { } logical_volumes { a { status = [\"VISIBLE\"] segment_count = 1 segment1 { start_extent = 0 extent_count = 9 } } } }"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > mib/2 {
			return
		}
		d := imagetest.PhysicalVolume(0, 1, string(text))
		pv, err := Open(bytes.NewReader(d), int64(len(d)))
		if err != nil {
			return
		}
		for _, g := range Groups([]*PhysicalVolume{pv}) {
			for _, v := range g.Volumes {
				if v.Problem != "" {
					continue
				}
				p := make([]byte, 4096)
				for _, off := range []int64{0, v.Size / 2, v.Size - 1} {
					if _, err := v.ReadAt(func(int) io.ReaderAt { return bytes.NewReader(d) }, p, off); err != nil && !errors.Is(err, io.EOF) {
						t.Errorf("%+v at %d: %v", v, off, err)
					}
				}
			}
		}
	})
}
