package store

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/internal/s3"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// WantedChunk is a chunk as an index refers to it: its digest, and what it must be. It
// is comparable: two that are equal are checked in the same way.
type WantedChunk struct{ want chunk.Want }

// Digest returns the name of the chunk.
func (c WantedChunk) Digest() name.Digest { return c.want.Digest }

// Size returns the length of its data, in bytes.
func (c WantedChunk) Size() int { return c.want.Size }

// Encrypted reports whether the chunk must be encrypted.
func (c WantedChunk) Encrypted() bool { return c.want.Mode == blob.MustEncrypted }

// Key returns the fingerprint of the key with which the chunk is opened, and whether the
// chunk is encrypted and its key is known.
func (c WantedChunk) Key() (keys.Fingerprint, bool) {
	if c.want.Key == nil {
		return keys.Fingerprint{}, false
	}
	return c.want.Key.Fingerprint(), true
}

// Wanted returns the chunk of a span of the index f. The key of the snapshot may be
// missing.
func (s *Snapshot) Wanted(f manifest.File, span index.Span) WantedChunk {
	w := chunk.Want{Digest: span.Digest, Size: int(span.End - span.Off), Mode: f.BlobMode()}
	if w.Mode == blob.MustEncrypted {
		w.Key = s.key
	}
	return WantedChunk{w}
}

// ChunkFault is what can be wrong with a chunk.
type ChunkFault uint8

// The faults of chunks.
const (
	ChunkMissing    ChunkFault = iota + 1 // there is no file
	ChunkMarked                           // there is none, because a verification has renamed it to .bad
	ChunkDamaged                          // the file is not the chunk
	ChunkUnreadable                       // the disk gives an I/O error
)

// ChunkError says that a chunk is not what it must be. It matches ErrCorrupt.
type ChunkError struct {
	Digest name.Digest
	Fault  ChunkFault
	Err    error
}

// Error says what is wrong, without the digest.
func (e *ChunkError) Error() string { return e.Err.Error() }

// Unwrap returns the cause, unless that is only that there is no such file.
func (e *ChunkError) Unwrap() []error {
	if e.Fault == ChunkMissing || e.Fault == ChunkMarked {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.Err}
}

// ChunkChecker checks chunks, each by one open, read and close, and keeps nothing of
// them but the memory for one. It must not be used concurrently.
type ChunkChecker struct{ c chunk.Checker }

// CheckedChunk is what was found out about a chunk that is not damaged.
type CheckedChunk struct {
	// Stored is the length of its file in bytes.
	Stored int64
	// Sealed is set if the chunk is encrypted and its key is not known: then only its
	// header, its CRC and, unless it is compressed, its length were checked.
	Sealed bool
}

// Check reads and verifies a chunk. An error about the chunk is a [*ChunkError]; any
// other error says why it could not be checked.
func (c *ChunkChecker) Check(ctx context.Context, right CanRead, want WantedChunk) (CheckedChunk, error) {
	r, root, err := begin(ctx, right)
	if err != nil {
		return CheckedChunk{}, err
	}
	got, err := c.c.Check(ctx, root, want.want)
	out := CheckedChunk{Stored: int64(got.Stored), Sealed: got.Sealed}
	var bad *chunk.Error
	if !errors.As(err, &bad) {
		return out, err
	}
	if gone := r.ds.blame(ctx, root, bad.Err); errors.Is(gone, ErrGone) {
		return out, gone
	}
	fault := faultOf(bad)
	if fault == 0 {
		return out, err
	}
	return out, &ChunkError{Digest: bad.Digest, Fault: fault, Err: bad.Err}
}

// faultOf tells what is wrong with a chunk, 0 if it is not the chunk that is to blame.
func faultOf(bad *chunk.Error) ChunkFault {
	var missing *backend.MissingChunkError
	switch {
	case errors.As(bad.Err, &missing) && missing.Bad != "":
		return ChunkMarked
	case bad.Missing:
		return ChunkMissing
	case errors.Is(bad.Err, ErrCorrupt):
		return ChunkDamaged
	}
	if !DiskFault(bad.Err) {
		return 0
	}
	return ChunkUnreadable
}

// DiskFault reports whether an error of a read that is about no wrong bytes comes from
// the disk. Otherwise it is this process that may not read, or lacks something, or a server
// that does not answer.
func DiskFault(err error) bool {
	var server *s3.Error
	if errors.As(err, &server) {
		return false
	}
	for _, own := range []error{fs.ErrPermission, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, own) {
			return false
		}
	}
	return true
}

// Unreadable reports whether an error is one that the kernel gives when a disk cannot read a
// block, or when its file system finds that its own structure is damaged.
func Unreadable(err error) bool {
	var server *s3.Error
	if errors.As(err, &server) {
		return false
	}
	for _, e := range []error{unix.EIO, unix.ENODATA, unix.EILSEQ, unix.EREMOTEIO, unix.EUCLEAN, unix.EBADMSG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ChunkOf returns the chunk that is to blame for an error of a read, and whether it is
// one.
func ChunkOf(err error) (name.Digest, bool) {
	var bad *chunk.Error
	if errors.As(err, &bad) {
		return bad.Digest, true
	}
	return name.Digest{}, false
}
