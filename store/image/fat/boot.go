package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

const (
	bootSize  = 512
	entrySize = 32
	// maxDir bounds a directory, in bytes, as the format does.
	maxDir = 65536 * entrySize
	// The numbers of clusters from which a file system is FAT16, or FAT32.
	least16, least32 = 4085, 65525
	rootNumber       = 1
)

// FS is a FAT file system. It is safe for concurrent use.
type FS struct {
	*image.Directories
	clusters.Plain

	size    int64
	table   *clusters.Table
	heap    clusters.Heap
	rootOff int64 // of the top directory of FAT12 and FAT16
	rootLen int64
	root    uint32 // its first cluster, in FAT32
	label   string
	serial  uint32
}

// cachedNames bounds the memory for directories, in entries.
const cachedNames = 50_000

// geometry is what the boot sector says.
type geometry struct {
	sector, cluster  int64 // bytes
	reserved, fats   int64 // sectors
	rootEntries      int64
	sectors, fatSize int64 // sectors
	rootCluster      uint32
	extended         int // where the label and the serial number lie
}

// Open reads the boot sector.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	if size < bootSize {
		return nil, image.ErrUnknown
	}
	b := make([]byte, bootSize)
	if err := image.ReadFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	g, ok := parseBoot(b)
	if !ok {
		return nil, image.ErrUnknown
	}
	f, err := g.layout(size)
	if err != nil {
		return nil, err
	}
	if e := g.extended; b[e] == 0x28 || b[e] == 0x29 {
		f.serial = binary.LittleEndian.Uint32(b[e+1:])
		if b[e] == 0x29 {
			f.label = strings.TrimRight(decode437(b[e+5:e+16]), " ")
		}
	}
	label, err := f.volumeLabel(r)
	if err != nil {
		return nil, err
	}
	if f.label == "NO NAME" || label != "" {
		f.label = label
	}
	return f, nil
}

// parseBoot reads the boot sector, if it is one: it has no mark, so each of its fields
// must be possible.
func parseBoot(b []byte) (geometry, bool) {
	u16 := func(off int) int64 { return int64(binary.LittleEndian.Uint16(b[off:])) }
	u32 := func(off int) int64 { return int64(binary.LittleEndian.Uint32(b[off:])) }
	g := geometry{sector: u16(11), cluster: int64(b[13]), reserved: u16(14), fats: int64(b[16]), rootEntries: u16(17), sectors: u16(19), fatSize: u16(22), extended: 38}
	media := b[21]
	jump := b[0] == 0xeb || b[0] == 0xe9
	switch {
	case !jump && u16(510) != 0xaa55,
		!power(g.sector) || g.sector < 512 || g.sector > 4096,
		!power(g.cluster),
		g.reserved == 0, g.fats == 0 || g.fats > 8,
		media != 0xf0 && media < 0xf8:
		return g, false
	}
	if g.sectors == 0 {
		g.sectors = u32(32)
	}
	if g.fatSize == 0 {
		g.fatSize, g.rootCluster, g.extended = u32(36), uint32(u32(44)), 66
	}
	g.cluster *= g.sector
	return g, g.fatSize != 0 && g.sectors != 0
}

func power(n int64) bool { return n > 0 && n&(n-1) == 0 }

// layout finds out where everything lies.
func (g geometry) layout(size int64) (*FS, error) {
	rootLen := g.rootEntries * entrySize
	fatOff := g.reserved * g.sector
	rootOff := fatOff + g.fats*g.fatSize*g.sector
	heapOff := rootOff + (rootLen+g.sector-1)/g.sector*g.sector
	end := g.sectors * g.sector
	if heapOff >= end || g.cluster > 1<<22 {
		return nil, image.ErrUnknown
	}
	if heapOff >= size {
		return nil, corrupt.At(0, "boot sector: its clusters begin at %d, behind the end", heapOff)
	}
	count := min((end-heapOff)/g.cluster, 0xffffff4)
	width := clusters.Bits28
	switch {
	case g.rootCluster != 0 && g.extended == 66:
	case count < least16:
		width = clusters.Bits12
	default:
		width = clusters.Bits16
	}
	fatLen := g.fatSize * g.sector
	if count < 1 || width.Needs(uint32(count)) > fatLen {
		return nil, corrupt.At(0, "boot sector: an allocation table of %d bytes for %d clusters", fatLen, count)
	}
	f := &FS{
		size: size, heap: clusters.Heap{Off: heapOff, Size: g.cluster},
		table: clusters.NewTable(fatOff, fatLen, width, uint32(count)),
	}
	f.Directories = image.NewDirectories(cachedNames, f.list)
	if width == clusters.Bits28 {
		f.root = g.rootCluster
	} else {
		f.rootOff, f.rootLen = rootOff, rootLen
	}
	return f, nil
}

// Name returns "vfat".
func (f *FS) Name() string { return "vfat" }

// Label returns the volume label.
func (f *FS) Label() string { return f.label }

// UUID returns the serial number, as blkid(8) writes it.
func (f *FS) UUID() string { return fmt.Sprintf("%04X-%04X", f.serial>>16, f.serial&0xffff) }

// Note returns "".
func (f *FS) Note() string { return "" }

// Root returns the number of the top directory.
func (f *FS) Root() uint64 { return rootNumber }
