package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// maxManifest bounds the encoded manifest.
const maxManifest = 16 << 20

// Snapshot is what the manifest of a snapshot says. It is a value in memory,
// immutable, and gives no right to read.
type Snapshot struct {
	ds       *datastore
	name     name.Snapshot
	manifest *manifest.Manifest
	attr     Attr
	stamp    stamp
	clientLog,
	protected bool
}

// stamp tells one state of a snapshot directory from the next.
type stamp struct {
	manifest disk.Info
	log      disk.Info
	// protected is whether the marker exists.
	protected bool
}

// LoadSnapshot returns the snapshot called s. It reads the manifest unless the
// one in memory is still the one on disk. A snapshot that does not exist, or
// is not finished, is [fs.ErrNotExist].
func LoadSnapshot(ctx context.Context, right CanRead, s name.Snapshot) (*Snapshot, error) {
	r, err := right.reading()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	now, err := r.ds.stampOf(root, s)
	if err != nil {
		return nil, err
	}
	if known, ok := r.ds.memory.snapshots.Get(s); ok && known.stamp == now {
		return known, nil
	}
	raw, info, err := root.ReadFile(s.Dir()+"/"+name.Manifest.String(), maxManifest, nil)
	if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return nil, r.ds.failed(root, err)
	}
	if err != nil {
		return nil, r.ds.damaged(s, name.Manifest, -1, err)
	}
	m, err := manifest.Decode(raw)
	if err != nil {
		return nil, r.ds.damaged(s, name.Manifest, -1, err)
	}
	if err := m.Matches(s); err != nil {
		return nil, r.ds.damaged(s, name.Manifest, -1, err)
	}
	now.manifest = info
	snap := &Snapshot{
		ds: r.ds, name: s, manifest: m, attr: attrOf(info), stamp: now,
		clientLog: now.log.IsRegular(), protected: now.protected,
	}
	r.ds.memory.snapshots.Put(s, snap, 1)
	return snap, nil
}

// stampOf looks at the files of a snapshot that can change.
func (d *datastore) stampOf(root *disk.Root, s name.Snapshot) (stamp, error) {
	dir, err := root.OpenDir(s.Dir())
	if err != nil {
		return stamp{}, d.failed(root, err)
	}
	defer dir.Close() //nolint:errcheck // nothing was written
	var st stamp
	if st.manifest, err = dir.Stat(name.Manifest.String()); err != nil {
		return stamp{}, d.failed(root, err)
	}
	if !st.manifest.IsRegular() {
		return stamp{}, fmt.Errorf("datastore %s: snapshot %s: manifest is no regular file: %w", d.name, s, fs.ErrNotExist)
	}
	if st.log, err = dir.Stat(name.ClientLog.String()); err != nil && !absent(err) {
		return stamp{}, d.failed(root, err)
	}
	if _, err = dir.Stat(".protected"); err != nil && !absent(err) {
		return stamp{}, d.failed(root, err)
	}
	st.protected = err == nil
	return st, nil
}

// absent reports whether err says that there is no such file, or only a
// symbolic link.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP)
}

// Name returns the snapshot's name.
func (s *Snapshot) Name() name.Snapshot { return s.name }

// Manifest returns the decoded manifest. It must not be changed.
func (s *Snapshot) Manifest() *manifest.Manifest { return s.manifest }

// Protected reports whether the snapshot is protected from removal.
func (s *Snapshot) Protected() bool { return s.protected }

// HasClientLog reports whether the client left its log.
func (s *Snapshot) HasClientLog() bool { return s.clientLog }

// Same reports whether s and t are one state of one snapshot.
func (s *Snapshot) Same(t *Snapshot) bool { return s == t || s.name == t.name && s.stamp == t.stamp }

// key returns the key that opens a file of the snapshot: nil without error for
// what is not encrypted.
func (s *Snapshot) key(f manifest.File) (*keys.Key, error) {
	if f.BlobMode() != blob.MustEncrypted {
		return nil, nil
	}
	fp, known := s.manifest.KeyFingerprint()
	if k := s.ds.keys.find(fp, known); k != nil {
		return k, nil
	}
	return nil, &KeyError{Fingerprint: fp, Known: known}
}

// Locked returns nil when the file's content can be decoded, else an error
// that matches ErrKeyNeeded and names the key. It does no I/O.
func (s *Snapshot) Locked(f manifest.File) error {
	_, err := s.key(f)
	return s.ds.damaged(s.name, f.Name, -1, err)
}

// Wrap adds the snapshot and file to an error that was found in content of
// theirs; off is the offset in the file, or -1.
func (s *Snapshot) Wrap(f name.File, off int64, err error) error {
	return s.ds.damaged(s.name, f, off, err)
}

// ReadBlob returns the decoded content of a blob that the manifest lists,
// after checking its checksum and size.
func (s *Snapshot) ReadBlob(ctx context.Context, right CanRead, f manifest.File) ([]byte, error) {
	key, err := s.key(f)
	if err != nil {
		return nil, s.ds.damaged(s.name, f.Name, -1, err)
	}
	raw, err := s.readFile(ctx, right, f.Name, blob.MaxSize+blobOverhead)
	if err != nil {
		return nil, err
	}
	if err := checkBlob(raw, f); err != nil {
		return nil, s.ds.damaged(s.name, f.Name, -1, err)
	}
	data, err := blob.Decode(nil, raw, blob.MaxSize, f.BlobMode(), key)
	return data, s.ds.damaged(s.name, f.Name, -1, err)
}

// blobOverhead is more than any header of a blob.
const blobOverhead = 4096

// ReadClientLog returns the decoded log of the client. The manifest does not
// list it: whether it is encrypted is told by its own header.
func (s *Snapshot) ReadClientLog(ctx context.Context, right CanRead) ([]byte, error) {
	raw, err := s.readFile(ctx, right, name.ClientLog, blob.MaxSize+blobOverhead)
	if err != nil {
		return nil, err
	}
	fp, known := s.manifest.KeyFingerprint()
	key := s.ds.keys.find(fp, known)
	data, err := blob.Decode(nil, raw, blob.MaxSize, blob.AnyKind, key)
	if errors.Is(err, blob.ErrKeyNeeded) {
		err = &KeyError{Fingerprint: fp, Known: known}
	}
	return data, s.ds.damaged(s.name, name.ClientLog, -1, err)
}

// readFile reads a whole file of the snapshot.
func (s *Snapshot) readFile(ctx context.Context, right CanRead, f name.File, limit int64) ([]byte, error) {
	r, err := right.reading()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	root, err := r.Root()
	if err != nil {
		return nil, err
	}
	raw, _, err := root.ReadFile(s.name.Dir()+"/"+f.String(), limit, nil)
	if err == nil {
		return raw, nil
	}
	return nil, s.lost(root, f, err)
}

// lost decides what an error while reading a file of s means. When the whole
// snapshot was removed meanwhile, that is no damage.
func (s *Snapshot) lost(root *disk.Root, f name.File, err error) error {
	if _, serr := s.ds.stampOf(root, s.name); serr != nil {
		return serr
	}
	return s.ds.damaged(s.name, f, -1, err)
}
