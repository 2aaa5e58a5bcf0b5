package btrfs

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// What is remembered for a file system at most.
const (
	nodeCache   = 4 << 20 // bytes of tree blocks
	extentCache = 1 << 20 // bytes of extents that were decompressed
	rootCache   = 4096    // trees
)

var (
	_ image.FileSystem = (*FS)(nil)
	_ image.File       = (*file)(nil)
)

// FS is a file system.
type FS struct {
	*superblock

	size    int64 // of the image
	notes   []string
	chunks  chunkMap
	top     root // the default subvolume
	nodes   *lru.Cache[uint64, *node]
	roots   *lru.Cache[uint64, root]
	extents *lru.Cache[extentKey, []byte]
}

// Open reads the superblock, the chunk tree, and what says which subvolume is the default. The
// file system begins at offset 0 of r and ends at size at the latest.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	fs := &FS{
		size:    size,
		nodes:   lru.New[uint64, *node](nodeCache),
		roots:   lru.New[uint64, root](rootCache),
		extents: lru.New[extentKey, []byte](extentCache),
	}
	if err := fs.readSuperblock(r); err != nil {
		return nil, err
	}
	if err := fs.readChunks(r); err != nil {
		return nil, err
	}
	if err := fs.findTop(r); err != nil {
		return nil, err
	}
	if fs.devices > 1 {
		fs.note("it has %d devices, of which this one is read", fs.devices)
	}
	if fs.LogDirty() {
		fs.note("the log was not replayed: what programs synchronized last may be missing")
	}
	return fs, nil
}

func (fs *FS) note(format string, args ...any) {
	fs.notes = append(fs.notes, fmt.Sprintf(format, args...))
}

// Name returns "btrfs".
func (fs *FS) Name() string { return "btrfs" }

// Label returns the label.
func (fs *FS) Label() string { return fs.label }

// UUID returns the UUID that the file system shows.
func (fs *FS) UUID() string {
	h := hex.EncodeToString(fs.fsid[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// Note says what is not as a mount would show it.
func (fs *FS) Note() string { return strings.Join(fs.notes, "; ") }

// LogDirty says whether there is a log, which a mount would replay.
func (fs *FS) LogDirty() bool { return fs.logRoot != 0 }

// Root returns the number of the top directory of the default subvolume.
func (fs *FS) Root() uint64 { return fs.top.dir }
