package store

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// What is here reads the files of a snapshot as they are on disk now, whatever is still
// in memory of them, and needs no key.

// ReadSnapshot is [LoadSnapshot] that reads the manifest even if it is in memory.
func ReadSnapshot(ctx context.Context, right CanRead, s name.Snapshot) (*Snapshot, error) {
	r, err := held(right)
	if err != nil {
		return nil, err
	}
	r.ds.memory.snapshots.Remove(s)
	return LoadSnapshot(ctx, right, s)
}

// Vanished reports whether an error says that a snapshot was removed or replaced while
// it was looked at. That is no damage.
func Vanished(err error) bool {
	return errors.Is(err, ErrReplaced) || errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt)
}

// ReadIndex reads an index that the manifest lists, and checks it against the manifest.
// It is not kept.
func (s *Snapshot) ReadIndex(ctx context.Context, right CanRead, f manifest.File) (*index.Index, error) {
	if f.Name.Format() == name.Blob {
		return nil, s.ds.at(s.name, f.Name, -1, errors.New("a blob, not an index"))
	}
	return (&Stream{snap: s, file: f, mode: f.BlobMode()}).readIndex(ctx, right)
}

// CheckedBlob is what was found out about a blob that is not damaged.
type CheckedBlob struct {
	Stored int64 // length of its file in bytes
	// Sealed is set if the blob is encrypted and its key is not known: then its content
	// was not checked.
	Sealed bool
}

// CheckBlob reads a blob that the manifest lists, and checks it: length, checksum, CRC,
// whether it must be encrypted, and its content if the key is known.
func (s *Snapshot) CheckBlob(ctx context.Context, right CanRead, f manifest.File) (CheckedBlob, error) {
	raw, err := s.readFile(ctx, right, f.Name, blob.MaxSize+blobOverhead)
	if err != nil {
		return CheckedBlob{}, err
	}
	out := CheckedBlob{Stored: int64(len(raw))}
	if err := checkBlob(raw, f); err != nil {
		return out, s.unlike(ctx, right, f.Name, -1, err)
	}
	out.Sealed, err = s.checkContent(raw, f.Name, f.BlobMode())
	return out, err
}

// HasLogEntry reports whether there is anything by the name of the client's log.
func (s *Snapshot) HasLogEntry() bool { return s.clientLog || s.stamp.log.Mode != 0 }

// CheckClientLog is [Snapshot.CheckBlob] for the client's log, of which no manifest has
// a checksum.
func (s *Snapshot) CheckClientLog(ctx context.Context, right CanRead) (CheckedBlob, error) {
	if !s.clientLog {
		return CheckedBlob{}, s.ds.at(s.name, name.ClientLog, -1, corrupt.New("not a regular file"))
	}
	raw, err := s.readFile(ctx, right, name.ClientLog, blob.MaxSize+blobOverhead)
	if err != nil {
		return CheckedBlob{}, err
	}
	out := CheckedBlob{Stored: int64(len(raw))}
	out.Sealed, err = s.checkContent(raw, name.ClientLog, blob.AnyKind)
	return out, err
}

// checkContent decodes a blob, and reports whether it cannot be decoded for want of a
// key.
func (s *Snapshot) checkContent(raw []byte, f name.File, mode blob.Mode) (sealed bool, err error) {
	_, err = blob.Decode(nil, raw, blob.MaxSize, mode, s.key)
	if errors.Is(err, blob.ErrKeyNeeded) {
		return true, nil
	}
	return false, s.ds.at(s.name, f, -1, err)
}

// KeyMissing reports whether a file of the snapshot can only be read with a key that is
// not known.
func (s *Snapshot) KeyMissing(f manifest.File) bool { return needsKey(f) && s.key == nil }

// Unlisted returns the names in the snapshot's directory that neither the manifest lists
// nor every snapshot may have, sorted. Nobody restores these files.
func (s *Snapshot) Unlisted(ctx context.Context, right CanRead) ([]string, error) {
	_, entries, err := list(ctx, right, s.name.Dir())
	var out []string
	for _, e := range entries {
		f, perr := name.ParseFile(e.Name)
		_, listed := s.manifest.Lookup(f)
		usual := f == name.Manifest || f == name.ClientLog || strings.HasPrefix(e.Name, ".")
		if !usual && (perr != nil || !listed) {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out, err
}

// Unfinished returns the snapshots of g that have a directory and no manifest, oldest
// first: they are being written, or were left behind.
func Unfinished(ctx context.Context, right CanRead, g name.Group) ([]name.Snapshot, error) {
	all, err := snapshotDirs(ctx, right, g)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	dir, err := groupDir(ctx, right, g)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var out []name.Snapshot
	for _, s := range all {
		done, err := finished(ctx, dir, s)
		if err != nil {
			return out, err
		}
		if !done {
			out = append(out, s)
		}
	}
	return out, nil
}

// Still returns nil if the snapshot is on disk as it was when it was loaded. Otherwise it
// returns an error about which [Vanished] reports true, or why that cannot be told.
func (s *Snapshot) Still(ctx context.Context, right CanRead) error {
	_, root, err := begin(ctx, right)
	if err != nil {
		return err
	}
	if err := s.lost(ctx, root, name.File{}, -1, errStill); !errors.Is(err, errStill) {
		return err
	}
	return nil
}

// errStill is what [Snapshot.lost] returns if the snapshot was not lost.
var errStill = errors.New("still there")
