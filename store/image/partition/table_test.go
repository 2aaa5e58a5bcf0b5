package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// disk is a disk in memory.
type disk []byte

const mib = 1 << 20

func newDisk(size int) disk { return make(disk, size) }

func (d disk) read(t *testing.T) *Table {
	t.Helper()
	table, err := Read(bytes.NewReader(d), int64(len(d)))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// mbr writes an entry of an MBR, or of a link of a chain, at sector at.
func (d disk) mbr(at, slot int, kind byte, start, count uint32) disk {
	b := d[at*sector:]
	binary.LittleEndian.PutUint16(b[signOff:], signature)
	e := b[entriesOff+(slot-1)*entrySize:]
	e[4] = kind
	binary.LittleEndian.PutUint32(e[8:], start)
	binary.LittleEndian.PutUint32(e[12:], count)
	return d
}

// gptPart is an entry of a GPT, in sectors.
type gptPart struct {
	slot        int
	first, last uint64
	name        string
}

// gpt writes a GPT with its copy, and a protective MBR.
func (d disk) gpt(unit int, parts ...gptPart) disk {
	d.mbr(0, 1, typeGPT, 1, uint32(len(d)/sector-1))
	table := make([]byte, 128*gptEntrySize)
	for _, p := range parts {
		e := table[(p.slot-1)*gptEntrySize:]
		copy(e, []byte{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4})
		e[16] = byte(p.slot)
		binary.LittleEndian.PutUint64(e[32:], p.first)
		binary.LittleEndian.PutUint64(e[40:], p.last)
		for i, u := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(e[56+2*i:], u)
		}
	}
	end := len(d)/unit - 1
	sectors := len(table) / unit
	copy(d[2*unit:], table)
	copy(d[(end-sectors)*unit:], table)
	d.gptHead(unit, 1, end, 2, table)
	d.gptHead(unit, end, 1, end-sectors, table)
	return d
}

func (d disk) gptHead(unit, self, other, at int, table []byte) {
	b := d[self*unit:]
	copy(b, gptSignature)
	binary.LittleEndian.PutUint32(b[8:], 0x10000)
	binary.LittleEndian.PutUint32(b[12:], gptHeaderSize)
	binary.LittleEndian.PutUint64(b[24:], uint64(self))
	binary.LittleEndian.PutUint64(b[32:], uint64(other))
	binary.LittleEndian.PutUint64(b[40:], uint64(34*sector/unit))
	binary.LittleEndian.PutUint64(b[48:], uint64(len(d)/unit-34))
	binary.LittleEndian.PutUint64(b[72:], uint64(at))
	binary.LittleEndian.PutUint32(b[80:], uint32(len(table)/gptEntrySize))
	binary.LittleEndian.PutUint32(b[84:], gptEntrySize)
	binary.LittleEndian.PutUint32(b[88:], crc32.ChecksumIEEE(table))
	d.sum(unit, self)
}

func (d disk) sum(unit, self int) {
	b := d[self*unit:]
	binary.LittleEndian.PutUint32(b[16:], 0)
	binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
}

// chain is an extended partition with three logical ones, beside two primary ones.
func chain() disk {
	return newDisk(64*mib).
		mbr(0, 1, 0x83, 2048, 20480).mbr(0, 2, 0x07, 22528, 2048).mbr(0, 4, 0x05, 32768, 65536).
		mbr(32768, 1, 0x83, 2048, 8192).mbr(32768, 2, 0x05, 16384, 10240).
		mbr(32768+16384, 1, 0x82, 2048, 8192).mbr(32768+16384, 2, 0x05, 32768, 10240).
		mbr(32768+32768, 1, 0x8e, 63, 4096)
}

var tables = map[string]struct {
	disk disk
	kind string
	want string // NUMBER@OFF+SIZE, in sectors
}{
	"primary partitions":     {newDisk(8*mib).mbr(0, 1, 0x83, 2048, 2048).mbr(0, 3, 0x0c, 8192, 4096), "mbr", "1@2048+2048 3@8192+4096"},
	"logical partitions":     {chain(), "mbr", "1@2048+20480 2@22528+2048 5@34816+8192 6@51200+8192 7@65599+4096"},
	"no partition":           {newDisk(8*mib).mbr(0, 1, 0, 0, 0), "mbr", ""},
	"beyond the end":         {newDisk(8*mib).mbr(0, 1, 0x83, 2048, 1<<20).mbr(0, 2, 0x83, 1<<20, 5), "mbr", "1@2048+14336"},
	"GPT":                    {newDisk(32*mib).gpt(sector, gptPart{1, 2048, 4095, "ESP"}, gptPart{5, 8192, 16383, "root ünï"}, gptPart{128, 20480, 20480, ""}), "gpt", "1@2048+2048 5@8192+8192 128@20480+1"},
	"GPT with a hybrid MBR":  {newDisk(32*mib).gpt(sector, gptPart{2, 4096, 8191, ""}).mbr(0, 2, 0x83, 4096, 4096), "gpt", "2@4096+4096"},
	"the copy of a GPT":      {newDisk(32*mib).gpt(sector, gptPart{3, 4096, 8191, "x"}).wipe(sector, 20), "gpt", "3@4096+4096"},
	"a GPT with a wrong sum": {newDisk(32*mib).gpt(sector, gptPart{3, 4096, 8191, "x"}).wipe(sector+50, 2), "gpt", "3@4096+4096"},
	"GPT without its copy":   {newDisk(32*mib).gpt(sector, gptPart{3, 4096, 8191, "x"}).wipe(32*mib-sector, sector), "gpt", "3@4096+4096"},
}

func (d disk) wipe(off, n int) disk {
	clear(d[off : off+n])
	return d
}

func describe(parts []Partition) string {
	var out []string
	for _, p := range parts {
		out = append(out, fmt.Sprintf("%d@%d+%d", p.Number, p.Off/sector, p.Size/sector))
	}
	return strings.Join(out, " ")
}

func TestTables(t *testing.T) {
	for what, c := range tables {
		got := c.disk.read(t)
		if got.Kind != c.kind || describe(got.Partitions) != c.want {
			t.Errorf("%s: %s %s, want %s %s", what, got.Kind, describe(got.Partitions), c.kind, c.want)
		}
	}
	large := newDisk(32*mib).gpt(largeSector, gptPart{1, 512, 1023, "large sectors"}).read(t)
	if got := describe(large.Partitions); got != "1@4096+4096" {
		t.Errorf("sectors of 4096 bytes: %s", got)
	}
	names := tables["GPT"].disk.read(t).Partitions
	if names[0].Name != "ESP" || names[1].Name != "root ünï" || names[1].Type != "0fc63daf-8483-4772-8e79-3d69d8477de4" {
		t.Errorf("names and types: %+v", names)
	}
}

// The tools of util-linux number partitions as Linux does.
func TestOthersSeeTheSame(t *testing.T) {
	// What they show of an extended partition, and do not cut, is another matter.
	others := map[string]string{
		"logical partitions": strings.Replace(tables["logical partitions"].want, " 5@", " 4@32768+65536 5@", 1),
		"beyond the end":     "1@2048+1048576 2@1048576+5",
	}
	for what, c := range tables {
		if want, ok := others[what]; ok {
			c.want = want
		}
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, c.disk, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := partx(t, file); got != c.want {
			t.Errorf("%s: partx sees %q, and we %q", what, got, c.want)
		}
	}
}

// partx lists the partitions that partx(8) finds on a disk.
func partx(t *testing.T, file string) string {
	t.Helper()
	path, err := exec.LookPath("partx")
	if err != nil {
		t.Skip("partx is not installed")
	}
	out, err := exec.Command(path, "-g", "-o", "NR,START,SECTORS", file).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "failed to read partition table") {
		t.Fatalf("partx: %v: %s", err, out)
	}
	var parts []Partition
	for line := range strings.Lines(string(out)) {
		var p Partition
		if n, _ := fmt.Sscan(line, &p.Number, &p.Off, &p.Size); n == 3 {
			p.Off, p.Size = p.Off*sector, p.Size*sector
			parts = append(parts, p)
		}
	}
	return describe(parts)
}

func TestWhatIsNoTable(t *testing.T) {
	boot := newDisk(mib).mbr(0, 1, 0, 0, 0)
	copy(boot[entriesOff:], "Non-System disk or disk error")
	for what, d := range map[string]disk{
		"nothing":               newDisk(mib),
		"a disk of a few bytes": newDisk(100),
		"a boot sector":         boot,
		"a GPT of nothing":      newDisk(mib).wipe(0, 512),
	} {
		if table, err := Read(bytes.NewReader(d), int64(len(d))); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %+v, %v", what, table, err)
		}
	}
}

func TestTablesThatLie(t *testing.T) {
	loop := newDisk(8*mib).mbr(0, 1, 0x05, 2048, 8192).mbr(2048, 1, 0x83, 63, 100).mbr(2048, 2, 0x05, 0, 8192)
	if got := loop.read(t); len(got.Partitions) != maxLogical || got.Note == "" {
		t.Errorf("a chain that leads back to itself: %d partitions, %q", len(got.Partitions), got.Note)
	}
	far := newDisk(8*mib).mbr(0, 1, 0x05, 1<<31, 1<<31)
	if got := far.read(t); len(got.Partitions) != 0 || got.Note == "" {
		t.Errorf("a chain on the moon: %+v", got)
	}
	many := newDisk(8*mib).gpt(sector, gptPart{1, 2048, 4095, ""})
	for _, at := range []int{1, len(many)/sector - 1} {
		binary.LittleEndian.PutUint32(many[at*sector+80:], 1<<24)
		many.sum(sector, at)
	}
	if got := many.read(t); len(got.Partitions) != 0 || got.Note == "" {
		t.Errorf("16 million entries: %+v", got)
	}
}

// failing is a disk with a part that cannot be read.
type failing struct {
	disk
	from, to int64
}

var errUnreadable = errors.New("cannot be read")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off < f.to && off+int64(len(p)) > f.from {
		return 0, errUnreadable
	}
	return bytes.NewReader(f.disk).ReadAt(p, off)
}

func TestUnreadableTables(t *testing.T) {
	gpt := newDisk(32*mib).gpt(sector, gptPart{1, 2048, 4095, ""})
	for what, c := range map[string]struct {
		r    failing
		want error
	}{
		"the first sector":        {failing{gpt, 0, 1}, errUnreadable},
		"a GPT that has a copy":   {failing{gpt, sector, 20 * sector}, nil},
		"a link of a chain":       {failing{chain(), 32768 * sector, 32769 * sector}, errUnreadable},
		"what belongs to nothing": {failing{gpt, 2048 * sector, 4096 * sector}, nil},
	} {
		if _, err := Read(c.r, int64(len(c.r.disk))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(chain()[:sector]), []byte(nil), 64)
	gpt := newDisk(mib).gpt(sector, gptPart{1, 40, 50, "x"})
	f.Add([]byte(gpt[:sector]), []byte(gpt[sector:4*sector]), 1)
	f.Fuzz(func(t *testing.T, first, rest []byte, mibs int) {
		d := newDisk(min(max(mibs, 1), 64) * mib)
		copy(d, first)
		copy(d[sector:], rest)
		table, err := Read(bytes.NewReader(d), int64(len(d)))
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error("it read behind the end")
			}
			return
		}
		for _, p := range table.Partitions {
			if p.Number < 1 || p.Off < 0 || p.Size <= 0 || p.Off+p.Size > int64(len(d)) {
				t.Errorf("%+v is no part of a disk of %d bytes", p, len(d))
			}
		}
	})
}
