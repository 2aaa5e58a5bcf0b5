package volumes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// Small file systems lie in testdata, so that what a fuzzer has found about them stays true. They
// are made anew with: go test ./store/image/volumes -run TestSeeds -make
var makeSeeds = flag.Bool("make", false, "make the file systems in testdata anew")

// seeds are the file systems, as programs make them.
var seeds = []imagetest.Format{
	{Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "metadata_csum,64bit", "-J", "size=1"}, Size: 4 * mib},
	{Type: "xfs", Mkfs: []string{"mkfs.xfs", "-q"}, Size: 300 * mib, Mount: "nouuid"},
	{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, Size: 128 * mib, Mount: "compress-force=zstd"},
	{Type: "ntfs", Mkfs: []string{"mkntfs", "-Q", "-F", "-q"}, Size: 8 * mib, MountWith: []string{"ntfs-3g"}, Mount: "streams_interface=xattr,compression"},
	{Type: "exfat", Mkfs: []string{"mkfs.exfat"}, Size: 4 * mib, MountWith: []string{"mount.exfat-fuse"}},
	{Type: "vfat", Mkfs: []string{"mkfs.fat", "-F", "16"}, Size: 16 * mib},
}

// plant makes a few objects. What a format does not have is left out.
func plant(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/d/e", 0o755))
	for i := range 12 {
		must(os.WriteFile(fmt.Sprintf("%s/d/a file with a name of some length, %d", dir, i), bytes.Repeat([]byte("text "), i*200), 0o644))
	}
	must(os.WriteFile(dir+"/holes", []byte("begin"), 0o644))
	f, err := os.OpenFile(dir+"/holes", os.O_RDWR, 0)
	must(err)
	for i := range int64(5) {
		_, err = f.WriteAt([]byte("data"), 40_000*(i+1))
		must(err)
	}
	must(f.Close())
	_ = os.Symlink("d/e", dir+"/link")
	_ = os.Symlink(strings.Repeat("long/", 40), dir+"/longlink")
	_ = os.Link(dir+"/holes", dir+"/d/hard")
	_ = unix.Mknod(dir+"/dev", unix.S_IFBLK|0o600, 0x801)
	_ = unix.Setxattr(dir+"/holes", "user.x", []byte("value"), 0)
	_ = unix.Setxattr(dir+"/d", "user.long", bytes.Repeat([]byte("v"), 600), 0)
}

const page = 4096

// sparseDisk is a disk of which only pages that are not zeros take memory.
type sparseDisk struct {
	pages map[int64][]byte
	size  int64
	below *sparseDisk // what is not in pages lies there
}

func (d *sparseDisk) page(n int64) []byte {
	for ; d != nil; d = d.below {
		if p, ok := d.pages[n]; ok {
			return p
		}
	}
	return nil
}

// ReadAt is that of an io.ReaderAt.
func (d *sparseDisk) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= d.size {
		return 0, io.EOF
	}
	if left := d.size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	for n < len(p) {
		at := off + int64(n)
		end := min(len(p), n+page-int(at%page))
		if b := d.page(at / page); b != nil {
			n += copy(p[n:end], b[at%page:])
			continue
		}
		clear(p[n:end])
		n = end
	}
	return n, err
}

// write writes into pages of the disk's own.
func (d *sparseDisk) write(off int64, b []byte) {
	for len(b) > 0 {
		n := off / page
		own, ok := d.pages[n]
		if !ok {
			own = make([]byte, page)
			copy(own, d.page(n))
			d.pages[n] = own
		}
		m := copy(own[off%page:], b)
		off, b = off+int64(m), b[m:]
	}
}

// pack writes down the pages of an image that are not zeros.
func pack(im io.ReaderAt, size int64) ([]byte, error) {
	out := binary.LittleEndian.AppendUint64(nil, uint64(size))
	p := make([]byte, page)
	for off := int64(0); off < size; off += page {
		if n, err := im.ReadAt(p, off); err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		if !bytes.Equal(p, make([]byte, page)) {
			for i := page - 1; i > 1; i-- {
				p[i] -= p[i-2] // a table of characters that count up then takes nothing
			}
			out = append(binary.LittleEndian.AppendUint32(out, uint32(off/page)), p...)
		}
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return nil, err
	}
	return z.EncodeAll(out, nil), z.Close()
}

// seed returns the disk with a file system of testdata.
func seed(t testing.TB, format string) *sparseDisk {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", format+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if b, err = z.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	d := &sparseDisk{pages: map[int64][]byte{}, size: int64(binary.LittleEndian.Uint64(b))}
	for b = b[8:]; len(b) > 4; b = b[4+page:] {
		p := b[4:][:page:page]
		for i := 2; i < page; i++ {
			p[i] += p[i-2]
		}
		d.pages[int64(binary.LittleEndian.Uint32(b))] = p
	}
	return d
}

// TestSeeds makes them, or looks whether they are whole.
func TestSeeds(t *testing.T) {
	for _, f := range seeds {
		if *makeSeeds {
			makeSeed(t, f)
		}
		d := seed(t, f.Type)
		l := Scan([]io.ReaderAt{d}, []int64{d.size})
		raw := l.Disks[0].Raw
		if raw == nil || raw.Filesystem == "" {
			t.Fatalf("%s: %+v", f.Type, l.Disks[0])
		}
		fsys, err := raw.Open([]io.ReaderAt{d})
		if err != nil {
			t.Fatal(err)
		}
		if errs := imagetest.Walk(fsys, d, true); len(errs) > 0 {
			t.Errorf("%s: %v", f.Type, errs)
		}
		if n := len(sealsOf(d)); n == 0 && (f.Type == "ext4" || f.Type == "xfs" || f.Type == "btrfs") {
			t.Errorf("%s: no checksum is found", f.Type)
		}
	}
}

// makeSeed makes a file system. Not every kernel has FAT: mcopy fills it.
func makeSeed(t *testing.T, f imagetest.Format) {
	t.Helper()
	im := imagetest.New(t, f)
	if f.Type == "vfat" {
		dir := t.TempDir()
		plant(t, dir)
		cmd := exec.Command("mcopy", "-s", "-m", "-Q", "-i", im.Path, dir+"/d", dir+"/holes", "::/")
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mcopy: %v: %s", err, out)
		}
	} else {
		im.Update(t, func(dir string) { plant(t, dir) })
	}
	file, size := im.Open(t)
	b, err := pack(file, size)
	if err == nil {
		err = os.WriteFile(filepath.Join("testdata", f.Type+".zst"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// seal is a structure with a checksum that was found to be right.
type seal struct {
	off  int64
	size int
	put  func(b []byte) // puts the checksum into the structure
}

// right reports whether the checksum is the one that put would put.
func (s seal) right(d *sparseDisk) bool {
	b := make([]byte, s.size)
	if _, err := d.ReadAt(b, s.off); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	again := bytes.Clone(b)
	s.put(again)
	return bytes.Equal(b, again)
}

// renew makes the checksum right.
func (s seal) renew(d *sparseDisk) {
	b := make([]byte, s.size)
	_, _ = d.ReadAt(b, s.off)
	s.put(b)
	d.write(s.off, b)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// raw32 is CRC-32C without inversion.
func raw32(sum uint32, b []byte) uint32 { return ^crc32.Update(^sum, castagnoli, b) }

// sealsOf looks at all that could be a structure with a checksum, and returns what is one.
func sealsOf(d *sparseDisk) (out []seal) {
	add := func(off int64, size int, put func(b []byte)) {
		if s := (seal{off, size, put}); off+int64(size) <= d.size && s.right(d) {
			out = append(out, s)
		}
	}
	for n := range d.pages {
		off := n * page
		xfsSeals(d, off, add)
		for _, size := range []int{page, 16 << 10} { // btrfs: superblock, tree block
			if off%int64(size) == 0 {
				add(off, size, func(b []byte) { binary.LittleEndian.PutUint32(b, crc32.Checksum(b[32:], castagnoli)) })
			}
		}
	}
	extSeals(d, add)
	slices.SortFunc(out, func(a, b seal) int { return int(a.off-b.off) - 1&int(a.size-b.size) })
	return out
}

// xfsSeals tries what XFS has in a page: inodes, and blocks that begin with a mark.
func xfsSeals(d *sparseDisk, off int64, add func(int64, int, func([]byte))) {
	p := d.page(off / page)
	at := func(field int) func([]byte) {
		return func(b []byte) {
			binary.LittleEndian.PutUint32(b[field:], 0)
			binary.LittleEndian.PutUint32(b[field:], crc32.Checksum(b, castagnoli))
		}
	}
	for in := 0; in < page; in += 512 {
		if string(p[in:in+2]) == "IN" {
			add(off+int64(in), 512, at(100))
		}
	}
	for mark, field := range map[string]int{"XDB3": 4, "XDD3": 4, "XSLM": 12, "XARM": 12} {
		if string(p[:4]) == mark {
			add(off, page, at(field))
		}
	}
	if string(p[:4]) == "XFSB" {
		add(off, 512, at(224))
	}
}

// extSeals tries what ext4 has: the superblock, descriptors of groups, inodes, and the blocks of
// directories, whose checksums begin with that of an inode.
func extSeals(d *sparseDisk, add func(int64, int, func([]byte))) {
	sb := make([]byte, 1024)
	if _, err := d.ReadAt(sb, 1024); err != nil || binary.LittleEndian.Uint16(sb[56:]) != 0xef53 {
		return
	}
	add(1024, 1024, func(b []byte) { binary.LittleEndian.PutUint32(b[1020:], raw32(^uint32(0), b[:1020])) })
	block := int64(1024) << binary.LittleEndian.Uint32(sb[24:])
	seed := raw32(^uint32(0), sb[104:120])
	group := make([]byte, 64)
	table := (1024/block + 1) * block
	_, _ = d.ReadAt(group, table)
	add(table, 64, func(b []byte) {
		binary.LittleEndian.PutUint16(b[30:], 0)
		binary.LittleEndian.PutUint16(b[30:], uint16(raw32(raw32(seed, make([]byte, 4)), b)))
	})
	inodes := int64(binary.LittleEndian.Uint32(group[8:])) * block
	size := int(binary.LittleEndian.Uint16(sb[88:]))
	var of []uint32 // seeds of inodes
	for n := range binary.LittleEndian.Uint32(sb[40:]) {
		b := make([]byte, size)
		off := inodes + int64(n)*int64(size)
		if _, err := d.ReadAt(b, off); err != nil || binary.LittleEndian.Uint16(b) == 0 {
			continue
		}
		sum := raw32(raw32(seed, binary.LittleEndian.AppendUint32(nil, n+1)), b[100:104])
		of = append(of, sum)
		add(off, size, func(b []byte) {
			binary.LittleEndian.PutUint16(b[124:], 0)
			binary.LittleEndian.PutUint16(b[130:], 0)
			got := raw32(sum, b)
			binary.LittleEndian.PutUint16(b[124:], uint16(got))
			binary.LittleEndian.PutUint16(b[130:], uint16(got>>16))
		})
	}
	for n := range d.pages {
		for off := n * page; off < (n+1)*page; off += block {
			for _, sum := range of {
				add(off, int(block), func(b []byte) {
					binary.LittleEndian.PutUint32(b[block-4:], raw32(sum, b[:block-12]))
				})
			}
		}
	}
}
