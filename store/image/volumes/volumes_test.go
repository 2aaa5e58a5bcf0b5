package volumes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

const (
	mib    = 1 << 20
	sector = 512
)

// system returns an ext4 of a size, with a file that says what it is.
func system(t *testing.T, size int64, label string) []byte {
	t.Helper()
	im := imagetest.New(t, imagetest.Format{Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q", "-F", "-L", label}, Size: size})
	im.Update(t, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(label), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	b, err := os.ReadFile(im.Path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parted makes a disk with an MBR and its partitions.
func parted(parts ...[]byte) []byte {
	d := make([]byte, mib)
	d[510], d[511] = 0x55, 0xaa
	for i, p := range parts {
		e := d[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], uint32(len(d)/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(len(p)/sector))
		d = append(d, p...)
	}
	return d
}

func swap() []byte {
	b := make([]byte, mib)
	copy(b[4086:], "SWAPSPACE2")
	return b
}

// scan looks at disks that are in memory.
func scan(disks ...[]byte) (*Layout, []io.ReaderAt) {
	var readers []io.ReaderAt
	var sizes []int64
	for _, d := range disks {
		readers = append(readers, bytes.NewReader(d))
		sizes = append(sizes, int64(len(d)))
	}
	return Scan(readers, sizes), readers
}

// named returns what the file in a file system says.
func named(t *testing.T, v *Volume, disks []io.ReaderAt) string {
	t.Helper()
	fsys, err := v.Open(disks)
	if err != nil {
		t.Fatal(err)
	}
	r := v.Reader(disks)
	e, err := fsys.Lookup(r, fsys.Root(), "name")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(r, e.Number)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, f.Size())
	if _, err := f.ReadAt(r, b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatLiesOnDisks(t *testing.T) {
	one, two := system(t, 16*mib, "one"), system(t, 16*mib, "two")
	l, disks := scan(parted(one, swap(), make([]byte, mib), two), one, make([]byte, mib), swap())
	parts := l.Disks[0].Parts
	if len(parts) != 4 || named(t, parts[0], disks) != "one" || named(t, parts[3], disks) != "two" || parts[0].Filesystem != "ext4" || parts[3].Label != "two" || parts[0].Top == nil {
		t.Fatalf("partitions: %+v", parts)
	}
	if !strings.HasPrefix(parts[1].Reason, "swap: ") || parts[2].Reason != "nothing that is known here" {
		t.Errorf("what is no file system: %q, %q", parts[1].Reason, parts[2].Reason)
	}
	if raw := l.Disks[1].Raw; raw == nil || named(t, raw, disks) != "one" || len(l.Disks[1].Parts) > 0 {
		t.Errorf("right on the disk: %+v", l.Disks[1])
	}
	if d := l.Disks[2]; d.Raw != nil || d.Parts != nil || d.Groups != nil || d.Err != nil {
		t.Errorf("on an empty disk: %+v", d)
	}
	if raw := l.Disks[3].Raw; raw == nil || !strings.HasPrefix(raw.Reason, "swap: ") || raw.Filesystem != "" {
		t.Errorf("on a disk of swap: %+v", l.Disks[3])
	}
}

func TestVolumesOnTwoDisks(t *testing.T) {
	root := system(t, 4*imagetest.Extent, "root")
	text := imagetest.VolumeGroup(1, 2,
		imagetest.LogicalVolume{Name: "root", Segments: []string{imagetest.Striped(0, 1, 0, 2), imagetest.Striped(1, 3, 1, 0)}},
		imagetest.LogicalVolume{Name: "thin", Segments: []string{"start_extent = 0\nextent_count = 1\ntype = \"thin\"\n"}})
	pvs := [][]byte{imagetest.PhysicalVolume(0, 5, text), imagetest.PhysicalVolume(1, 5, text)}
	copy(pvs[0][imagetest.DataStart+2*imagetest.Extent:], root[:imagetest.Extent])
	copy(pvs[1][imagetest.DataStart:], root[imagetest.Extent:])
	l, disks := scan(parted(swap(), pvs[0]), pvs[1], swap())
	for i, want := range []int{1, 1, 0} {
		if got := len(l.Disks[i].Groups); got != want {
			t.Fatalf("disk %d is part of %d groups, want %d", i, got, want)
		}
	}
	g := l.Disks[0].Groups[0]
	if g != l.Disks[1].Groups[0] || g.Name != "vg-test" || len(g.Volumes) != 2 {
		t.Fatalf("got %+v", g)
	}
	if got := named(t, g.Volumes[0], disks); got != "root" {
		t.Errorf("the volume is %q", got)
	}
	if v := g.Volumes[1]; v.Readable() || !strings.Contains(v.Reason, "thin") {
		t.Errorf("a thin volume: %+v", v)
	}
	if reason := l.Disks[0].Parts[1].Reason; !strings.Contains(reason, "physical volume of LVM") {
		t.Errorf("the part of the group is %q", reason)
	}
	alone, _ := scan(pvs[1])
	if v := alone.Disks[0].Groups[0].Volumes[0]; v.Readable() || !strings.Contains(v.Reason, "not in this backup") {
		t.Errorf("without the other disk: %+v", v)
	}
}

// torn is a disk with a part that cannot be read.
type torn struct {
	io.ReaderAt
	from, to int64
}

var errTorn = errors.New("cannot be read")

func (d torn) ReadAt(p []byte, off int64) (int, error) {
	if off < d.to && off+int64(len(p)) > d.from {
		return 0, errTorn
	}
	return d.ReaderAt.ReadAt(p, off)
}

func TestWhatCannotBeReadHidesNothingElse(t *testing.T) {
	one := system(t, 16*mib, "one")
	d := parted(one, one)
	disks := []io.ReaderAt{torn{bytes.NewReader(d), mib, 2 * mib}, torn{bytes.NewReader(d), 0, 1}}
	l := Scan(disks, []int64{int64(len(d)), int64(len(d))})
	parts := l.Disks[0].Parts
	if !errors.Is(parts[0].Err, errTorn) || parts[0].Filesystem != "" || parts[1].Err != nil || named(t, parts[1], disks) != "one" {
		t.Errorf("%+v, %+v", parts[0], parts[1])
	}
	if !errors.Is(l.Disks[1].Err, errTorn) {
		t.Errorf("a disk whose partition table cannot be read: %+v", l.Disks[1])
	}
}

// holed are disks whose holes are given, as pairs of offsets.
type holed [][]int64

func (h holed) hole(disk int, off int64) (end int64, in bool) {
	for i := 0; i < len(h[disk]); i += 2 {
		if off >= h[disk][i] && off < h[disk][i+1] {
			return h[disk][i+1], true
		}
	}
	return 0, false
}

func (h holed) NextData(disk int, off int64) (int64, error) {
	for {
		end, in := h.hole(disk, off)
		if !in {
			return off, nil
		}
		off = end
	}
}

func (h holed) NextHole(disk int, off int64) (int64, error) {
	next := int64(1) << 40
	for i := 0; i < len(h[disk]); i += 2 {
		if h[disk][i+1] > off {
			next = min(next, max(off, h[disk][i]))
		}
	}
	return next, nil
}

func TestHolesOfVolumes(t *testing.T) {
	const e = imagetest.Extent
	text := imagetest.VolumeGroup(1, 2, imagetest.LogicalVolume{Name: "v", Segments: []string{imagetest.Striped(0, 2, 0, 1), imagetest.Striped(2, 1, 1, 0)}})
	l, _ := scan(imagetest.PhysicalVolume(0, 5, text), imagetest.PhysicalVolume(1, 5, text))
	v := l.Disks[0].Groups[0].Volumes[0]
	start := int64(imagetest.DataStart)
	h := holed{{start + e + 100, start + 2*e}, {start, start + 50}}
	// The volume has data, a hole in its first extent, data, a hole at the beginning of
	// its third one, and data.
	for _, c := range []struct{ off, data, hole int64 }{
		{0, 0, 100}, {100, e, 100}, {e - 1, e, e - 1}, {e, e, 2 * e}, {2 * e, 2*e + 50, 2 * e}, {2*e + 60, 2*e + 60, 3 * e}, {3 * e, 3 * e, 3 * e},
	} {
		data, err := v.NextData(h, c.off)
		hole, err2 := v.NextHole(h, c.off)
		if data != c.data || hole != c.hole || err != nil || err2 != nil {
			t.Errorf("from %d: data at %d, a hole at %d; want %d and %d", c.off, data, hole, c.data, c.hole)
		}
	}
}

func TestHolesAreMeasured(t *testing.T) {
	d := parted(swap(), swap())
	l, _ := scan(d)
	if err := l.Measure(holed{{mib + 4096, 2*mib + 100}}); err != nil {
		t.Fatal(err)
	}
	if p := l.Disks[0].Parts; p[0].Allocated != 4096 || p[1].Allocated != mib-100 {
		t.Errorf("allocated: %d and %d", p[0].Allocated, p[1].Allocated)
	}
}

func TestEachDecoderKnowsItsOwn(t *testing.T) {
	for i, open := range decoders {
		for _, size := range []int64{0, 1, 511, mib} {
			if fsys, err := open(bytes.NewReader(make([]byte, size)), size); !errors.Is(err, image.ErrUnknown) {
				t.Errorf("decoder %d takes %d zeros: %v, %v", i, size, fmt.Sprintf("%T", fsys), err)
			}
		}
	}
}
