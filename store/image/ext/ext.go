package ext

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// What is remembered for a file system at most, in bytes.
const (
	cacheSize = 4 << 20
	indexSize = 1 << 20
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
	overlay overlay
	cache   *lru.Cache[cacheKey, []byte]
	indexes *lru.Cache[uint64, nameIndex]
}

// Open reads the superblock, and the log if there is something in it. The file system
// begins at offset 0 of r and ends at size at the latest.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	fs := &FS{size: size, cache: lru.New[cacheKey, []byte](cacheSize), indexes: lru.New[uint64, nameIndex](indexSize)}
	backup, err := fs.readSuperblock(r)
	if err != nil {
		return nil, err
	}
	if int64(fs.blocks)*int64(fs.blockSize) > size {
		fs.note("the image ends before the file system does")
	}
	// Copies of the superblock do not say whether there is something in the log.
	if fs.incompat&incompatRecover != 0 || backup && fs.compat&compatHasJournal != 0 {
		if err := fs.replay(r, backup); err != nil {
			return nil, err
		}
	}
	if fs.state&stateErrors != 0 {
		fs.note("the file system says that it has errors")
	}
	return fs, nil
}

func (fs *FS) note(format string, args ...any) {
	fs.notes = append(fs.notes, fmt.Sprintf(format, args...))
}

// Name returns "ext2", "ext3" or "ext4".
func (fs *FS) Name() string { return fs.name() }

// Label returns the volume name.
func (fs *FS) Label() string { return fs.label }

// UUID returns the UUID of the file system.
func (fs *FS) UUID() string {
	if fs.uuid == [16]byte{} {
		return ""
	}
	h := hex.EncodeToString(fs.uuid[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// Note says what is not as a mount would show it.
func (fs *FS) Note() string { return strings.Join(fs.notes, "; ") }

// Root returns 2.
func (fs *FS) Root() uint64 { return rootInode }
