package image

import (
	"errors"
	"io"
)

// The types of objects, in the bits of st_mode.
const (
	TypeMask    = 0o170000
	Socket      = 0o140000
	Symlink     = 0o120000
	Regular     = 0o100000
	BlockDevice = 0o060000
	Dir         = 0o040000
	CharDevice  = 0o020000
	Fifo        = 0o010000
)

var (
	// ErrEncrypted says that an object, or a whole file system, is encrypted.
	ErrEncrypted = errors.New("encrypted")
	// ErrUnsupported says that the decoder does not know a feature that it would have to
	// know to read something.
	ErrUnsupported = errors.New("not supported")
	// ErrUnknown says that no file system of the format begins here.
	ErrUnknown = errors.New("no such file system")
)

// FileSystem is a file system in an image. r is always the same content, beginning where
// the file system begins.
type FileSystem interface {
	// Name is the type, as mount(8) has it: "ext4", "xfs", "vfat".
	Name() string
	// Label and UUID are as blkid(8) shows them; "" if there is none.
	Label() string
	UUID() string
	// Note says what a user should know, "" if there is nothing: for example that a log
	// was not replayed.
	Note() string
	// Root is the number of the top directory.
	Root() uint64
	// Inode returns the attributes of an object.
	Inode(r io.ReaderAt, number uint64) (*Inode, error)
	// Lookup returns the entry with a name; [fs.ErrNotExist] if there is none.
	Lookup(r io.ReaderAt, dir uint64, name string) (Entry, error)
	// Entries lists a directory without "." and "..". What could be read comes with the
	// error that says what could not. No name comes twice.
	Entries(r io.ReaderAt, dir uint64) ([]Entry, error)
	// Readlink returns the target of a symbolic link.
	Readlink(r io.ReaderAt, number uint64) (string, error)
	// Xattrs returns the extended attributes, in the form in which the kernel gives them
	// to root, sorted by name.
	Xattrs(r io.ReaderAt, number uint64) ([]Xattr, error)
	// Open returns the content of a regular file.
	Open(r io.ReaderAt, number uint64) (File, error)
}

// Time is an instant: seconds since 1970 and nanoseconds.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Inode is an object of a file system.
type Inode struct {
	Number uint64
	Mode   uint32 // type and permissions, as in st_mode
	Nlink  uint32
	UID    uint32
	GID    uint32
	Rdev   Device
	Size   int64
	Blocks int64 // allocated, in units of 512 bytes, as in st_blocks
	Mtime  Time
}

// Device is the number of a device.
type Device struct{ Major, Minor uint32 }

// Type returns the bits of the mode that say what the object is.
func (i *Inode) Type() uint32 { return i.Mode & TypeMask }

// Entry is a name in a directory.
type Entry struct {
	Name   string
	Number uint64
	// Type is that of the object as the directory has it, 0 if it does not say.
	Type uint32
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// File is the content of a regular file. It holds memory only.
type File interface {
	Size() int64
	// ReadAt reads len(p) bytes at off of the content. It reads less only at the end, where
	// it returns [io.EOF].
	ReadAt(r io.ReaderAt, p []byte, off int64) (int, error)
	// NextData and NextHole return the first offset at or after off that lies in data, or
	// in a hole. The end counts as a hole. If no data follows, NextData returns the size.
	// What was allocated and never written may count as either.
	NextData(r io.ReaderAt, off int64) (int64, error)
	NextHole(r io.ReaderAt, off int64) (int64, error)
}
