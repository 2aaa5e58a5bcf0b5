package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/name"
)

// Backend is an open datastore. It is safe for concurrent use, but Close must not be
// called while another call runs. Each call returns soon after its context has ended,
// unless a local disk hangs. The error for what does not exist matches [fs.ErrNotExist].
type Backend interface {
	// List returns the directories and regular files in a directory. If reading fails
	// half-way, it returns what it has read, with the error.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Stat describes a name, which may be "." for the datastore itself.
	Stat(ctx context.Context, name string) (Info, error)
	// OpenDir opens a directory for many calls about what is below it. The caller must
	// Close it.
	OpenDir(ctx context.Context, dir string) (Directory, error)
	// ReadFile reads a regular file, which must not be longer than limit bytes, into buf
	// if its capacity is large enough. It returns the file as it was when it was opened.
	ReadFile(ctx context.Context, name string, limit int64, buf []byte) ([]byte, Info, error)
	// Through has read read a regular file, which must not be longer than limit bytes,
	// from its beginning.
	Through(ctx context.Context, name string, limit int64, read func(f io.Reader, size int64) error) (Info, error)
	// ReadChunk returns a chunk as it is stored, in buf if its capacity is large enough.
	// The error for a missing chunk is a [*MissingChunkError].
	ReadChunk(ctx context.Context, d name.Digest, buf []byte) ([]byte, error)
	// ListChunks calls fn for the files of chunks, in no certain order. Other files are
	// left out. An error of fn ends it.
	ListChunks(ctx context.Context, fn func(ChunkName) error) error
	// LockShared takes the shared lock of a directory without waiting. If it is locked
	// exclusively, the error matches EWOULDBLOCK; [NoLocks] tells if there are no locks.
	LockShared(dir string) (Lock, error)
	// Statfs returns the figures of the file system that holds the datastore.
	Statfs() (unix.Statfs_t, error)
	Close() error
}

// Directory is an open directory.
type Directory interface {
	// Stat describes a name below the directory; it may have several components.
	Stat(ctx context.Context, name string) (Info, error)
	Close() error
}

// Lock is a lock on a directory.
type Lock interface{ Release() }

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool // a directory; a regular file otherwise
}

// Identity tells one state of a file from another, on any file system.
type Identity struct {
	Dev, Ino uint64
}

// Info is what is known of a file without reading it.
type Info struct {
	Identity
	Mode  uint32 // st_mode
	UID   uint32
	GID   uint32
	Size  int64
	Mtime time.Time
	Ctime time.Time
}

// IsDir reports whether the file is a directory.
func (i Info) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether the file is a regular file.
func (i Info) IsRegular() bool { return i.Mode&unix.S_IFMT == unix.S_IFREG }

// ErrTooLarge says that a file is longer than its limit.
var ErrTooLarge = errors.New("file too large")

// NoFile reports whether err says that a file, or a directory on the way to it, is of
// another type: a symbolic link, a file, a socket.
func NoFile(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO)
}

// NoLocks reports whether err says that there are no locks.
func NoLocks(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOLCK)
}

// MissingChunkError says that a chunk has no file. It matches [fs.ErrNotExist].
type MissingChunkError struct {
	// Bad is the file to which a verification has moved the chunk, "" if there is none.
	Bad string
}

// Error says what is known of the chunk.
func (e *MissingChunkError) Error() string {
	if e.Bad == "" {
		return "missing from the datastore"
	}
	return fmt.Sprintf("marked corrupt by a verification (%s); a new backup of the same data would bring it back", e.Bad)
}

// Is makes errors.Is(e, fs.ErrNotExist) true.
func (e *MissingChunkError) Is(target error) bool { return target == fs.ErrNotExist }
