package exfat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

const (
	bootSize  = 512
	entrySize = 32
	mark      = "EXFAT   "
	// bootSectors are summed, and the sector that follows has the sum.
	bootSectors = 11
	// maxDir bounds a directory, in bytes, as the format does.
	maxDir     = 256 << 20
	rootNumber = 1
)

// FS is an exFAT file system. It is safe for concurrent use.
type FS struct {
	*image.Directories
	clusters.Plain

	size   int64
	table  *clusters.Table
	heap   clusters.Heap
	count  uint32
	root   uint32
	serial uint32
	label  string
	note   string
}

// cachedNames bounds the memory for directories, in entries.
const cachedNames = 50_000

// Open reads the boot region, or its copy if the first is damaged.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	if size < bootSize {
		return nil, image.ErrUnknown
	}
	b := make([]byte, bootSize)
	if err := image.ReadFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	if string(b[3:11]) != mark {
		return nil, image.ErrUnknown
	}
	f, err := openAt(r, size, b, 0)
	if errors.Is(err, corrupt.Err) {
		if g, err := copyOf(r, size, b); err == nil {
			g.note = "the boot region is damaged; this is its copy"
			return g, g.readLabel(r)
		}
	}
	if err != nil {
		return nil, err
	}
	return f, f.readLabel(r)
}

// copyOf opens the file system by the copy of its boot region, which follows the first one.
// The size of sectors is that of the first, if it can be one.
func copyOf(r io.ReaderAt, size int64, first []byte) (*FS, error) {
	shift := first[108]
	if shift < 9 || shift > 12 {
		return nil, image.ErrUnknown
	}
	at := int64(bootSectors+1) << shift
	if at > size-bootSize {
		return nil, image.ErrUnknown
	}
	b := make([]byte, bootSize)
	if err := image.ReadFull(r, b, at); err != nil {
		return nil, err
	}
	return openAt(r, size, b, at)
}

// openAt reads a boot region whose first sector is b.
func openAt(r io.ReaderAt, size int64, b []byte, at int64) (*FS, error) {
	sectorShift, clusterShift := b[108], b[109]
	if string(b[3:11]) != mark || sectorShift < 9 || sectorShift > 12 || clusterShift > 25-sectorShift {
		return nil, corrupt.At(at, "boot sector: sectors of 2^%d bytes", sectorShift)
	}
	if err := checkSum(r, size, at, 1<<sectorShift); err != nil {
		return nil, err
	}
	u32 := func(off int) int64 { return int64(binary.LittleEndian.Uint32(b[off:])) }
	sector := int64(1) << sectorShift
	fatOff, fatLen, heapOff, count := u32(80)*sector, u32(84)*sector, u32(88)*sector, u32(92)
	f := &FS{
		size: size, heap: clusters.Heap{Off: heapOff, Size: sector << clusterShift},
		count: uint32(count), root: uint32(u32(96)), serial: uint32(u32(100)),
	}
	f.Directories = image.NewDirectories(cachedNames, f.list)
	switch {
	case b[105] != 1:
		return nil, fmt.Errorf("exFAT of version %d.%02d: %w", b[105], b[104], image.ErrUnsupported)
	case b[110] != 1 && b[110] != 2:
		return nil, fmt.Errorf("exFAT with %d allocation tables: %w", b[110], image.ErrUnsupported)
	case count < 1 || count > 0xfffffff5, clusters.Bits32.Needs(uint32(count)) > fatLen, heapOff >= size, fatOff >= size:
		return nil, corrupt.At(at, "boot sector: an allocation table of %d bytes for %d clusters from %d", fatLen, count, heapOff)
	}
	if b[110] == 2 && b[106]&1 == 1 { // the second table is in use
		fatOff += fatLen
	}
	f.table = clusters.NewTable(fatOff, fatLen, clusters.Bits32, uint32(count))
	return f, nil
}

// checkSum checks the checksum of a boot region. What changes while the file system is in
// use is left out of it.
func checkSum(r io.ReaderAt, size, at, sector int64) error {
	region := make([]byte, (bootSectors+1)*sector)
	if at > size-int64(len(region)) {
		return corrupt.At(at, "boot region goes beyond the end")
	}
	if err := image.ReadFull(r, region, at); err != nil {
		return fmt.Errorf("boot region: %w", err)
	}
	var sum uint32
	for i, c := range region[:bootSectors*sector] {
		if i == 106 || i == 107 || i == 112 {
			continue
		}
		sum = (sum>>1 | sum<<31) + uint32(c)
	}
	if got := binary.LittleEndian.Uint32(region[bootSectors*sector:]); got != sum {
		return corrupt.At(at, "boot region has a wrong checksum")
	}
	return nil
}

// Name returns "exfat".
func (f *FS) Name() string { return "exfat" }

// Label returns the volume label.
func (f *FS) Label() string { return f.label }

// UUID returns the serial number, as blkid(8) writes it.
func (f *FS) UUID() string { return fmt.Sprintf("%04X-%04X", f.serial>>16, f.serial&0xffff) }

// Note says whether the copy of the boot region was needed.
func (f *FS) Note() string { return f.note }

// Root returns the number of the top directory.
func (f *FS) Root() uint64 { return rootNumber }
