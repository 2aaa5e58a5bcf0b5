package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

var (
	// ErrReleased is the answer to using a reference that was released or was never
	// acquired.
	ErrReleased = errors.New("reference to the datastore is not held")
	// ErrCorrupt matches every error that reports wrong or missing bytes, or bytes of a
	// snapshot that a disk cannot read.
	ErrCorrupt = corrupt.Err
	// ErrKeyNeeded matches errors about content that only a key can open.
	ErrKeyNeeded = errors.New("key needed")
	// ErrFileMissing says that a snapshot has no file that its manifest lists. It matches
	// ErrCorrupt.
	ErrFileMissing = corrupt.New("listed in the manifest, but missing from the snapshot")
	// ErrGone says that a datastore's directory or device is no longer there.
	ErrGone = errors.New("datastore is not there")
	// ErrReplaced says that a snapshot was removed and written again with the same time
	// since it was looked up.
	ErrReplaced = errors.New("snapshot was replaced")
	// ErrNotDatastore says that a directory holds no datastore.
	ErrNotDatastore = errors.New("not a datastore")
	// ErrS3Cache says that a directory is the local cache of a datastore whose data is
	// in a bucket.
	ErrS3Cache = errors.New("local cache of an S3 datastore")
)

// Error is a failure that belongs to a snapshot.
type Error struct {
	Datastore string
	Snapshot  name.Snapshot
	// File is the stored file; its zero value if no single file is meant.
	File name.File
	// Off is the offset in the file's content, -1 if none is meant.
	Off int64
	Err error
}

// Error names the datastore, snapshot, file and offset, and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "datastore %s: snapshot %s: ", e.Datastore, e.Snapshot)
	if e.File != (name.File{}) {
		fmt.Fprintf(&b, "%s: ", e.File)
	}
	b.WriteString(e.Err.Error())
	if e.Off >= 0 {
		fmt.Fprintf(&b, " (at offset %d)", e.Off)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes an Error about what a disk cannot read match ErrCorrupt: to who needs the data,
// it is damaged like data with wrong bytes, and everything else goes on.
func (e *Error) Is(target error) bool {
	return target == ErrCorrupt && Unreadable(e.Err) && !errors.Is(e.Err, ErrGone)
}

// Cause identifies the fault, for callers that report each cause once: a bad chunk is
// one cause, whichever files it is in.
func (e *Error) Cause() string {
	var c *chunk.Error
	if errors.As(e.Err, &c) {
		return "chunk " + c.Digest.String()
	}
	return e.Snapshot.String() + " " + e.File.String() + ": " + e.Err.Error()
}

// KeyError says that content is encrypted and that its key is missing.
type KeyError struct {
	// Fingerprint is the key's fingerprint in the manifest; Known reports whether the
	// manifest has one.
	Fingerprint keys.Fingerprint
	Known       bool
}

// Error names the key that is needed.
func (e *KeyError) Error() string {
	if !e.Known {
		return "encrypted; the manifest does not say with which key"
	}
	return fmt.Sprintf("encrypted; the key with the fingerprint %s is needed", e.Fingerprint.Short())
}

// Is makes errors.Is(e, ErrKeyNeeded) true.
func (e *KeyError) Is(target error) bool { return target == ErrKeyNeeded }

// at adds to an error the file of a snapshot and the offset in it; off is -1 if no
// offset is meant. A file that is missing although the manifest lists it is damage, not
// absence.
func (d *datastore) at(s name.Snapshot, f name.File, off int64, err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = ErrFileMissing
	case backend.NoFile(err):
		err = fmt.Errorf("%w: %w", corrupt.New("not a regular file"), err)
	}
	return &Error{Datastore: d.name, Snapshot: s, File: f, Off: off, Err: err}
}
