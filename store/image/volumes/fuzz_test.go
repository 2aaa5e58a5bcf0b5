package volumes

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// odd are numbers that go wrong where they are believed.
var odd = []uint64{0, 1, 2, 3, 7, 8, 255, 256, 1 << 12, 1<<15 - 1, 1 << 15, 1<<16 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, math.MaxInt64, 1 << 63, math.MaxUint64}

// planted is a disk to be changed.
type planted struct {
	disk  *sparseDisk
	pages []int64 // that have something in them
	seals []seal
}

// partitioned puts a file system behind an MBR with one partition.
func partitioned(d *sparseDisk) *sparseDisk {
	head := parted(make([]byte, 0))
	e := head[446:]
	e[4] = 0x83
	binary.LittleEndian.PutUint32(e[8:], mib/sector)
	binary.LittleEndian.PutUint32(e[12:], uint32(d.size/sector))
	out := &sparseDisk{pages: map[int64][]byte{0: head[:page:page]}, size: mib + d.size}
	for n, p := range d.pages {
		out.pages[n+mib/page] = p
	}
	return out
}

// grouped is a physical volume of LVM with a file system on it.
func grouped(d *sparseDisk) *sparseDisk {
	text := imagetest.VolumeGroup(1, 1, imagetest.LogicalVolume{Name: "v", Segments: []string{imagetest.Striped(0, 1, 0, 0)}})
	pv := imagetest.PhysicalVolume(0, 1, text)
	out := &sparseDisk{pages: map[int64][]byte{}, size: int64(len(pv))}
	for off := 0; off < imagetest.DataStart; off += page {
		if p := pv[off:][:page:page]; !bytes.Equal(p, make([]byte, page)) {
			out.pages[int64(off/page)] = p
		}
	}
	for n, p := range d.pages {
		out.pages[n+imagetest.DataStart/page] = p
	}
	return out
}

// change changes a place: which page, where in it, and how.
func (p *planted) change(d *sparseDisk, c [6]byte) {
	n := p.pages[(int(c[0])|int(c[1])<<8)%len(p.pages)]
	off := n*page + int64(binary.LittleEndian.Uint16(c[2:])%page)
	v := odd[int(c[5])%len(odd)]
	var b []byte
	switch c[4] % 6 {
	case 0:
		b = []byte{0}
		_, _ = d.ReadAt(b, off)
		b[0] ^= c[5]
	case 1:
		b = []byte{c[5]}
	case 2:
		b = binary.LittleEndian.AppendUint32(nil, uint32(v))
	case 3:
		b = binary.BigEndian.AppendUint32(nil, uint32(v))
	case 4:
		b = binary.LittleEndian.AppendUint64(nil, v)
	case 5:
		b = binary.BigEndian.AppendUint64(nil, v)
	}
	d.write(off, b[:min(int64(len(b)), (n+1)*page-off)])
}

// reseal makes the checksums of all structures right that were changed.
func (p *planted) reseal(d *sparseDisk) {
	for _, s := range p.seals {
		for n := s.off / page; n <= (s.off+int64(s.size)-1)/page; n++ {
			if _, changed := d.pages[n]; changed {
				s.renew(d)
				break
			}
		}
	}
}

// patience is how long the look at a disk may take, however busy the machine is.
const patience = 5 * time.Second

// FuzzDisks changes disks with a partition, a logical volume or nothing around a file system,
// with and without the checksums made right again, and reads all that is found on them.
func FuzzDisks(f *testing.F) {
	var all []*planted
	for _, format := range seeds {
		d := seed(f, format.Type)
		around := []*sparseDisk{d, partitioned(d)}
		if format.Type == "ext4" {
			around = append(around, grouped(d))
		}
		for _, d := range around {
			p := &planted{disk: d, seals: sealsOf(d)}
			for _, n := range slices.Sorted(maps.Keys(d.pages)) {
				if b := d.pages[n]; !bytes.Equal(b[1:], b[:page-1]) { // not all bytes are the same
					p.pages = append(p.pages, n)
				}
			}
			all = append(all, p)
		}
	}
	for which := range all {
		f.Add(byte(which), []byte{0, 0, 0x58, 0, 4, 10})
		f.Add(byte(which), []byte{1, 0, 0x10, 1, 3, 14, 5, 0, 0, 2, 0, 255})
	}
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		began := time.Now()
		defer func() {
			if took := time.Since(began); took > patience {
				t.Errorf("a disk of a few objects took %s", took)
			}
		}()
		p := all[int(which%128)%len(all)]
		d := &sparseDisk{pages: map[int64][]byte{}, size: p.disk.size, below: p.disk}
		for ; len(changes) >= 6 && len(changes) <= 300; changes = changes[6:] {
			p.change(d, [6]byte(changes))
		}
		if which < 128 {
			p.reseal(d)
		}
		disks := []io.ReaderAt{d}
		for _, found := range Scan(disks, []int64{d.size}).Disks {
			if found.Err != nil && imagetest.Unexpected(found.Err) {
				t.Errorf("the disk: %v", found.Err)
			}
			vs := slices.Clone(found.Parts)
			if found.Raw != nil {
				vs = append(vs, found.Raw)
			}
			for _, g := range found.Groups {
				vs = append(vs, g.Volumes...)
			}
			for _, v := range vs {
				read(t, v, disks)
			}
		}
	})
}

// read reads what lies on a volume.
func read(t *testing.T, v *Volume, disks []io.ReaderAt) {
	t.Helper()
	if v.Err != nil && imagetest.Unexpected(v.Err) {
		t.Errorf("volume %d%s: %v", v.Number, v.Name, v.Err)
	}
	if !v.Readable() {
		return
	}
	fsys, err := v.Open(disks)
	if err != nil {
		if imagetest.Unexpected(err) {
			t.Errorf("open volume %d%s: %v", v.Number, v.Name, err)
		}
		return
	}
	for _, err := range imagetest.Walk(fsys, v.Reader(disks), true) {
		if imagetest.Unexpected(err) {
			t.Errorf("volume %d%s: %v", v.Number, v.Name, err)
		}
	}
}
