package xfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// What is remembered at most, in bytes: blocks that were verified, and windows of inodes,
// each of which is verified when it is used.
const (
	maxBlocks  = 4 << 20
	maxWindows = 2 << 20
)

// FS is an XFS in an image.
type FS struct {
	sb      *superblock
	size    int64 // of the image
	notes   []string
	dirty   bool
	overlay overlay
	blocks  *lru.Cache[blockKey, []byte]
	windows *lru.Cache[int64, []byte]
}

var (
	_ image.FileSystem = (*FS)(nil)
	_ image.File       = (*file)(nil)
)

// Open reads the superblock, and looks whether the log is clean.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	sb, backup, err := findSuperblock(r, size)
	if err != nil {
		return nil, err
	}
	f := &FS{
		sb: sb, size: size,
		blocks:  lru.New[blockKey, []byte](maxBlocks),
		windows: lru.New[int64, []byte](maxWindows),
	}
	if backup {
		f.note("the first superblock is damaged, another one was used")
	}
	if missing := sb.bytes(sb.dataBlocks) - size; missing > 0 {
		f.note("the image ends %d bytes before the file system does", missing)
	}
	if sb.incompat&incompatNeedsRepair != 0 {
		f.note("marked as in need of repair")
	}
	return f, f.readLog(r)
}

func (f *FS) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// Name returns "xfs".
func (f *FS) Name() string { return "xfs" }

// Label returns the label.
func (f *FS) Label() string { return f.sb.label }

// UUID returns the UUID.
func (f *FS) UUID() string {
	u := f.sb.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Note says what a user should know.
func (f *FS) Note() string { return strings.Join(f.notes, "; ") }

// LogDirty says whether the log has, or may have, changes that are not shown.
func (f *FS) LogDirty() bool { return f.dirty }

// Root returns the number of the top directory.
func (f *FS) Root() uint64 { return f.sb.root }

// Inode returns the attributes of an object.
func (f *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	in, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	return in.stat(f.sb), nil
}

// dir reads the inode of a directory.
func (f *FS) dir(r io.ReaderAt, number uint64) (*directory, error) {
	in, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	if !in.is(image.Dir) {
		return nil, corrupt.At(in.off, "inode %d: not a directory", number)
	}
	return newDirectory(f, in)
}

// Lookup returns the entry with a name.
func (f *FS) Lookup(r io.ReaderAt, dir uint64, name string) (image.Entry, error) {
	d, err := f.dir(r, dir)
	if err != nil {
		return image.Entry{}, err
	}
	if !validName(name) {
		return image.Entry{}, fs.ErrNotExist
	}
	return d.lookup(r, name)
}

// Entries lists a directory.
func (f *FS) Entries(r io.ReaderAt, dir uint64) ([]image.Entry, error) {
	d, err := f.dir(r, dir)
	if err != nil {
		return nil, err
	}
	return d.entries(r)
}

// Readlink returns the target of a symbolic link.
func (f *FS) Readlink(r io.ReaderAt, number uint64) (string, error) {
	in, err := f.inode(r, number)
	if err != nil {
		return "", err
	}
	if !in.is(image.Symlink) {
		return "", corrupt.At(in.off, "inode %d: not a symbolic link", number)
	}
	return f.target(r, in)
}

// Xattrs returns the extended attributes.
func (f *FS) Xattrs(r io.ReaderAt, number uint64) ([]image.Xattr, error) {
	in, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	return f.xattrs(r, in)
}

// Open returns the content of a regular file.
func (f *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	in, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	if !in.is(image.Regular) {
		return nil, corrupt.At(in.off, "inode %d: not a regular file", number)
	}
	if in.realtime {
		return nil, fmt.Errorf("inode %d: %w: content on the realtime device", number, image.ErrUnsupported)
	}
	k, err := in.data(f)
	if err != nil {
		return nil, err
	}
	return &file{k, in.size}, nil
}

// problems keeps the first errors of something that goes on in spite of them.
type problems struct {
	errs []error
	more int
}

const maxProblems = 8

func (p *problems) add(err error) {
	if err == nil {
		return
	}
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	p.errs = append(p.errs, err)
}

// many says that going on makes no sense.
func (p *problems) many() bool { return p.more > 1000 }

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.errs, corrupt.New("and %d more errors", p.more))...)
	}
	return errors.Join(p.errs...)
}
