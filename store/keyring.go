package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// keyring holds the keys with which snapshots are opened. Keys are added, and never
// removed. It is safe for concurrent use.
type keyring struct {
	masters []*keys.Master
	offered map[keys.Fingerprint]*keys.Key // for snapshots that name them; never changed

	mu         sync.RWMutex // a leaf lock
	keys       map[keys.Fingerprint]*keys.Key
	generation int // counts additions: a snapshot that could not be opened before may open now
}

func newKeyring(list, offered []*keys.Key, masters []*keys.Master) *keyring {
	return &keyring{masters: masters, keys: byFingerprint(list), offered: byFingerprint(offered)}
}

func byFingerprint(list []*keys.Key) map[keys.Fingerprint]*keys.Key {
	m := make(map[keys.Fingerprint]*keys.Key)
	for _, k := range list {
		m[k.Fingerprint()] = k
	}
	return m
}

// add adds a key.
func (r *keyring) add(k *keys.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.keys[k.Fingerprint()]; !ok {
		r.keys[k.Fingerprint()] = k
		r.generation++
	}
}

// state returns how many keys were added so far.
func (r *keyring) state() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.generation
}

// find returns the key with that fingerprint, nil if there is none. For a manifest that
// names no key it returns the only data key, if there is exactly one: if that key is
// wrong, the digests do not match.
func (r *keyring) find(fp keys.Fingerprint, known bool) *keys.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if known {
		if k := r.keys[fp]; k != nil {
			return k
		}
		return r.offered[fp]
	}
	if len(r.keys) == 1 {
		for _, k := range r.keys {
			return k
		}
	}
	return nil
}

// AddKey adds a key. Snapshots that it opens can be read from their next lookup on.
func (l *Lookup) AddKey(k *keys.Key) error {
	if l.isZero() {
		return ErrReleased
	}
	l.ds.keys.add(k)
	return nil
}

// keyOf returns the key of a snapshot, nil if it is not known. A master key, if there
// is one, recovers it from the copy that the client stored.
func (d *datastore) keyOf(ctx context.Context, right CanRead, s *Snapshot) *keys.Key {
	fp, known := s.manifest.KeyFingerprint()
	k := d.keys.find(fp, known)
	if _, wrapped := s.manifest.Lookup(name.EncryptedKey); k != nil || !known || !wrapped || len(d.keys.masters) == 0 {
		return k
	}
	file, err := s.recoverKey(ctx, right, d.keys.masters)
	if err != nil {
		d.log.Warn("master key does not open a snapshot", "datastore", d.name, "snapshot", s.name.String(), "error", err)
		return nil
	}
	raw, err := file.Open(nil)
	if err != nil {
		d.log.Warn("recovered key", "datastore", d.name, "snapshot", s.name.String(), "error", err)
		return nil
	}
	k, err = keys.New(raw)
	if err != nil || k.Fingerprint() != fp {
		d.log.Warn("recovered key is not the snapshot's", "datastore", d.name, "snapshot", s.name.String())
		return nil
	}
	d.keys.add(k)
	return k
}

// recoverKey decrypts the key that the client stored with the snapshot.
func (s *Snapshot) recoverKey(ctx context.Context, right CanRead, masters []*keys.Master) (*keys.File, error) {
	text, err := s.RecoverKey(ctx, right, masters)
	if err != nil {
		return nil, err
	}
	return keys.ParseFile(text)
}

// RecoverKey returns the text of the key file that the client has encrypted with the
// public half of one of the master keys. The text is secret.
func (s *Snapshot) RecoverKey(ctx context.Context, right CanRead, masters []*keys.Master) ([]byte, error) {
	line, ok := s.manifest.Lookup(name.EncryptedKey)
	if !ok {
		return nil, fmt.Errorf("datastore %s: snapshot %s has no %s: its key was not backed up with a master key", s.ds.name, s.name, name.EncryptedKey.Stem())
	}
	wrapped, err := s.ReadBlob(ctx, right, line)
	if err != nil {
		return nil, err
	}
	for _, m := range masters {
		if text, uerr := m.Unwrap(wrapped); uerr == nil {
			return text, nil
		} else {
			err = uerr
		}
	}
	return nil, fmt.Errorf("datastore %s: snapshot %s: %s: %w", s.ds.name, s.name, name.EncryptedKey, err)
}

// checkSignature returns what is known of the manifest's signature. If it is not
// certain that the key is the snapshot's, a wrong signature proves nothing.
func checkSignature(m *manifest.Manifest, key *keys.Key) manifest.SignatureState {
	state := m.CheckSignature(key)
	if _, known := m.KeyFingerprint(); state == manifest.Invalid && !known {
		return manifest.Unverified
	}
	return state
}

// needsKey reports whether a file can be read only with a key.
func needsKey(f manifest.File) bool { return f.BlobMode() == blob.MustEncrypted }
