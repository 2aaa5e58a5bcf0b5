package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// Snapshot is the content of a snapshot's manifest. It is a value in memory, immutable,
// and gives no right to read.
type Snapshot struct {
	ds       *datastore
	name     name.Snapshot
	manifest *manifest.Manifest
	attr     Attr
	stamp    stamp
	clientLog,
	protected bool

	// key opens the snapshot; nil if it is not known.
	key       *keys.Key
	signature manifest.SignatureState
	keyring   int // the state of the keyring when the key was looked for
}

// stamp tells one state of a snapshot directory from the next.
type stamp struct {
	manifest backend.Info
	log      backend.Info
	// protected is whether the marker exists.
	protected bool
}

// LoadSnapshot returns the snapshot called s. It reads the manifest unless the one in
// memory is still the one on disk. A snapshot that does not exist, or is not finished,
// is [fs.ErrNotExist].
func LoadSnapshot(ctx context.Context, right CanRead, s name.Snapshot) (*Snapshot, error) {
	r, root, err := begin(ctx, right)
	if err != nil {
		return nil, err
	}
	now, err := r.ds.stampOf(ctx, root, s)
	if err != nil {
		return nil, err
	}
	ring := r.ds.keys.state()
	if known, ok := r.ds.memory.snapshots.Get(s); ok && known.stamp == now && known.keyring == ring {
		return known, nil
	}
	raw, info, err := root.ReadFile(ctx, s.Dir()+"/"+name.Manifest.String(), manifest.MaxEncoded, nil)
	if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return nil, r.ds.blame(ctx, root, err)
	}
	if err != nil {
		return nil, r.ds.at(s, name.Manifest, -1, err)
	}
	m, err := manifest.Decode(raw)
	if err != nil {
		return nil, r.ds.at(s, name.Manifest, -1, err)
	}
	if from, moved := m.MovedFrom(s); moved {
		r.ds.log.Warn("snapshot was made elsewhere: a directory was moved or renamed since", "datastore", r.ds.name, "snapshot", s.String(), "made_as", from)
	}
	now.manifest = info
	snap := &Snapshot{
		ds: r.ds, name: s, manifest: m, attr: attrOf(info), stamp: now,
		clientLog: now.log.IsRegular(), protected: now.protected, keyring: ring,
	}
	for _, p := range m.UnprotectedProblems {
		r.ds.log.Warn("manifest", "datastore", r.ds.name, "snapshot", s.String(), "error", p)
	}
	if err := snap.authenticate(ctx, right); err != nil {
		return nil, r.ds.at(s, name.Manifest, -1, err)
	}
	r.ds.memory.snapshots.Put(s, snap, snap.MemSize())
	return snap, nil
}

// MemSize returns about how many bytes of memory the snapshot takes.
func (s *Snapshot) MemSize() int64 { return snapshotWeight + s.manifest.MemSize() }

// authenticate finds the key of the snapshot and checks the signature of its manifest.
// A wrong signature is damage, unless the user wants such snapshots served.
func (s *Snapshot) authenticate(ctx context.Context, right CanRead) error {
	s.key = s.ds.keyOf(ctx, right, s)
	s.signature = checkSignature(s.manifest, s.key)
	if s.signature == manifest.Invalid && !s.ds.ignoreSignature {
		return corrupt.New("signature of the manifest is wrong under the key %s; --ignore-signature serves it all the same", s.key.Fingerprint().Short())
	}
	if s.signature == manifest.Unsigned && s.key != nil && s.manifest.Encrypted() {
		s.ds.log.Warn("manifest of an encrypted snapshot is not signed: it may have been changed", "datastore", s.ds.name, "snapshot", s.name.String())
	}
	return nil
}

// Signature returns what is known of the manifest's signature.
func (s *Snapshot) Signature() manifest.SignatureState { return s.signature }

// stampOf looks at those files of a snapshot that can change.
func (d *datastore) stampOf(ctx context.Context, root backend.Backend, s name.Snapshot) (stamp, error) {
	dir, err := root.OpenDir(ctx, s.Dir())
	if err != nil {
		return stamp{}, d.blame(ctx, root, err)
	}
	defer dir.Close()
	var st stamp
	if st.manifest, err = dir.Stat(ctx, name.Manifest.String()); err != nil {
		return stamp{}, d.blame(ctx, root, err)
	}
	if !st.manifest.IsRegular() { // to the server, too, the snapshot then has none
		return stamp{}, fmt.Errorf("datastore %s: snapshot %s: manifest is no regular file: %w", d.name, s, fs.ErrNotExist)
	}
	if st.log, err = dir.Stat(ctx, name.ClientLog.String()); err != nil && !absent(err) {
		return stamp{}, d.blame(ctx, root, err)
	}
	if _, err = dir.Stat(ctx, ".protected"); err != nil && !absent(err) {
		return stamp{}, d.blame(ctx, root, err)
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

// ManifestSize returns the length of the manifest as it is stored, in bytes.
func (s *Snapshot) ManifestSize() int64 { return s.attr.Size }

// Protected reports whether the snapshot is protected from removal.
func (s *Snapshot) Protected() bool { return s.protected }

// HasClientLog reports whether the client has stored its log.
func (s *Snapshot) HasClientLog() bool { return s.clientLog }

// keyFor returns the key that opens a file of the snapshot; for a file that is not
// encrypted, it returns nil without an error.
func (s *Snapshot) keyFor(f manifest.File) (*keys.Key, error) {
	if !needsKey(f) {
		return nil, nil
	}
	if s.key == nil {
		fp, known := s.manifest.KeyFingerprint()
		return nil, &KeyError{Fingerprint: fp, Known: known}
	}
	return s.key, nil
}

// Wrap adds the snapshot and file to an error about their content; off is the offset in
// the file, or -1.
func (s *Snapshot) Wrap(f name.File, off int64, err error) error {
	return s.ds.at(s.name, f, off, err)
}

// ReadBlob returns the decoded content of a blob that the manifest lists,
// after checking its checksum and size.
func (s *Snapshot) ReadBlob(ctx context.Context, right CanRead, f manifest.File) ([]byte, error) {
	key, err := s.keyFor(f)
	if err != nil {
		return nil, s.ds.at(s.name, f.Name, -1, err)
	}
	raw, err := s.readFile(ctx, right, f.Name, blob.MaxSize+blobOverhead)
	if err != nil {
		return nil, err
	}
	if err := checkBlob(raw, f); err != nil {
		return nil, s.unlike(ctx, right, f.Name, -1, err)
	}
	data, err := s.decode(ctx, raw, f.BlobMode(), key)
	return data, s.ds.at(s.name, f.Name, -1, err)
}

// decode decodes a blob. One after the other is decoded: a few bytes of a compressed blob can
// become as many as a blob may have.
func (s *Snapshot) decode(ctx context.Context, raw []byte, mode blob.Mode, key *keys.Key) ([]byte, error) {
	select {
	case s.ds.memory.decoding <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.ds.memory.decoding }()
	return blob.Decode(nil, raw, blob.MaxSize, mode, key)
}

// blobOverhead is larger than any header of a blob.
const blobOverhead = 4096

// ReadClientLog returns the decoded log of the client. The manifest does not list the
// log; its own header says whether it is encrypted.
func (s *Snapshot) ReadClientLog(ctx context.Context, right CanRead) ([]byte, error) {
	raw, err := s.readFile(ctx, right, name.ClientLog, blob.MaxSize+blobOverhead)
	if err != nil {
		return nil, err
	}
	data, err := s.decode(ctx, raw, blob.AnyKind, s.key)
	if errors.Is(err, blob.ErrKeyNeeded) {
		fp, known := s.manifest.KeyFingerprint()
		err = &KeyError{Fingerprint: fp, Known: known}
	}
	return data, s.ds.at(s.name, name.ClientLog, -1, err)
}

// readFile reads a whole file of the snapshot.
func (s *Snapshot) readFile(ctx context.Context, right CanRead, f name.File, limit int64) ([]byte, error) {
	_, root, err := begin(ctx, right)
	if err != nil {
		return nil, err
	}
	raw, _, err := root.ReadFile(ctx, s.name.Dir()+"/"+f.String(), limit, nil)
	if err == nil {
		return raw, nil
	}
	return nil, s.lost(ctx, root, f, -1, err)
}

// lost decides what an error about a file of s means; off is the offset in the file, or
// -1. If the whole snapshot was removed or replaced meanwhile, the error is no damage.
func (s *Snapshot) lost(ctx context.Context, root backend.Backend, f name.File, off int64, err error) error {
	now, serr := s.ds.stampOf(ctx, root, s.name)
	switch {
	case serr != nil:
		return serr
	case now.manifest != s.stamp.manifest && s.replaced(ctx, root):
		return fmt.Errorf("datastore %s: snapshot %s: %w", s.ds.name, s.name, ErrReplaced)
	}
	return s.ds.at(s.name, f, off, err)
}

// replaced reports whether the manifest lists other files now. A manifest that was only
// written anew tells nothing: servers do so to note a verification.
func (s *Snapshot) replaced(ctx context.Context, root backend.Backend) bool {
	raw, _, err := root.ReadFile(ctx, s.name.Dir()+"/"+name.Manifest.String(), manifest.MaxEncoded, nil)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	m, err := manifest.Decode(raw)
	return err == nil && !slices.Equal(m.Files, s.manifest.Files)
}

// unlike is [Snapshot.lost] for a file whose content is not what the manifest says.
func (s *Snapshot) unlike(ctx context.Context, right CanRead, f name.File, off int64, err error) error {
	if err == nil {
		return nil
	}
	if r, rerr := held(right); rerr == nil && errors.Is(err, ErrCorrupt) {
		if root, oerr := r.Root(); oerr == nil {
			return s.lost(ctx, root, f, off, err)
		}
	}
	return s.ds.at(s.name, f, off, err)
}
