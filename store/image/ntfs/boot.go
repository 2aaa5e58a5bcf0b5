package ntfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

const (
	bootSize = 512
	mark     = "NTFS    "
	// The bounds of a record and of a block of an index, in bytes.
	minRecord, maxRecord = 512, 64 << 10
	// fixupUnit is how many bytes each fixup protects, whatever the size of a sector.
	fixupUnit = 512
)

// The records of the file system itself. The first of a user is firstUser.
const (
	recordMFT    = 0
	recordVolume = 3
	recordRoot   = 5
	firstUser    = 16
)

// FS is an NTFS file system. It is safe for concurrent use.
type FS struct {
	*image.Directories

	cluster  int64 // bytes
	clusters int64 // how many there are
	record   int64 // bytes
	serial   uint64
	label    string
	note     string
	root     uint64
	mft      *stream

	records *lru.Cache[uint64, *inode]
}

const (
	// cachedInodes bounds the memory for records, in bytes, and cachedNames that for
	// directories, in entries.
	cachedInodes = 2 << 20
	cachedNames  = 30_000
)

// Open reads the boot sector and what it leads to.
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
	f, at, mirror, err := parseBoot(b, size)
	if err != nil {
		return nil, err
	}
	if err := f.findMFT(r, at, mirror); err != nil {
		return nil, err
	}
	return f, f.readVolume(r)
}

// parseBoot reads the boot sector. at and mirror are where the master file table and the
// copy of its first records begin.
func parseBoot(b []byte, size int64) (f *FS, at, mirror int64, err error) {
	sector := int64(binary.LittleEndian.Uint16(b[11:]))
	perCluster := int64(b[13])
	if b[13] > 0x80 { // as a power
		perCluster = 1 << min(31, 256-int(b[13]))
	}
	f = &FS{
		cluster: sector * perCluster, serial: binary.LittleEndian.Uint64(b[72:]),
		records: lru.New[uint64, *inode](cachedInodes),
	}
	f.Directories = image.NewDirectories(cachedNames, f.list)
	if !power(sector) || sector < 256 || sector > 4096 || !power(f.cluster) || f.cluster > 2<<20 {
		return nil, 0, 0, corrupt.At(0, "boot sector: clusters of %d sectors of %d bytes", perCluster, sector)
	}
	if f.record = sized(int8(b[64]), f.cluster); !power(f.record) || f.record < minRecord || f.record > maxRecord {
		return nil, 0, 0, corrupt.At(0, "boot sector: records of %d bytes", f.record)
	}
	// The last sector is the copy of the boot sector, which no cluster covers.
	f.clusters = min(int64(min(binary.LittleEndian.Uint64(b[40:]), 1<<62)), size/sector) / perCluster
	lcn, copyLCN := binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint64(b[56:])
	if f.clusters < 1 || lcn >= uint64(f.clusters) {
		return nil, 0, 0, corrupt.At(0, "boot sector: the master file table begins at cluster %d of %d", lcn, f.clusters)
	}
	mirror = -1
	if copyLCN < uint64(f.clusters) {
		mirror = int64(copyLCN) * f.cluster
	}
	return f, int64(lcn) * f.cluster, mirror, nil
}

// sized returns a size that is a number of clusters, or if it is negative a power of two.
func sized(n int8, cluster int64) int64 {
	if n >= 0 {
		return int64(n) * cluster
	}
	return 1 << min(62, -int(n))
}

func power(n int64) bool { return n > 0 && n&(n-1) == 0 }

// findMFT reads the record of the master file table itself, or its copy.
func (f *FS) findMFT(r io.ReaderAt, at, mirror int64) error {
	err := f.readMFT(r, at)
	if err == nil || mirror < 0 || !errors.Is(err, corrupt.Err) {
		return err
	}
	if f.readMFT(r, mirror) != nil {
		return err
	}
	f.note = "the first record of the master file table is damaged; this is its copy"
	return nil
}

func (f *FS) readMFT(r io.ReaderAt, at int64) error {
	b := make([]byte, f.record)
	if err := image.ReadFull(r, b, at); err != nil {
		return fmt.Errorf("master file table: %w", err)
	}
	rec, err := parseRecord(b, at)
	if err != nil {
		return fmt.Errorf("master file table: %w", err)
	}
	// Parts of its runs may be in records that lie in what the first part leads to.
	first, err := f.streamOf(rec.attrs, attrData, "")
	if err != nil {
		return fmt.Errorf("master file table: %w", err)
	}
	f.mft = first
	all, err := f.gather(r, rec, recordMFT)
	if err != nil {
		return fmt.Errorf("master file table: %w", err)
	}
	if f.mft, err = f.streamOf(all, attrData, ""); err != nil {
		return fmt.Errorf("master file table: %w", err)
	}
	return nil
}

// The flags in the information about the volume.
const volumeDirty = 0x0001

// readVolume reads label and state of the volume, and finds the top directory.
func (f *FS) readVolume(r io.ReaderAt) error {
	root, err := f.present(r, recordRoot)
	if err != nil {
		return fmt.Errorf("top directory: %w", err)
	}
	f.root = root
	ref, err := f.present(r, recordVolume)
	if err != nil {
		return fmt.Errorf("$Volume: %w", err)
	}
	v, err := f.inode(r, ref)
	if err != nil {
		return fmt.Errorf("$Volume: %w", err)
	}
	if a := v.find(attrVolumeName, ""); a != nil && a.resident {
		f.label = decodeUTF16(a.value)
	}
	if a := v.find(attrVolumeInfo, ""); a != nil && len(a.value) >= 12 && binary.LittleEndian.Uint16(a.value[10:])&volumeDirty != 0 && f.note == "" {
		f.note = "the volume was in use; its log was not replayed"
	}
	return nil
}

// Name returns "ntfs".
func (f *FS) Name() string { return "ntfs" }

// Label returns the name of the volume.
func (f *FS) Label() string { return f.label }

// UUID returns the serial number, as blkid(8) writes it.
func (f *FS) UUID() string { return fmt.Sprintf("%016X", f.serial) }

// Note says what is special about the volume.
func (f *FS) Note() string { return f.note }

// Root returns the number of the top directory.
func (f *FS) Root() uint64 { return f.root }
