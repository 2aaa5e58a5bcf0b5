package manifest

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Limits against manifests that exhaust memory. A server takes one as long as any blob, but
// whoever looks at many snapshots has many manifests in memory: this is room for some thousand
// files, where clients write a few dozen.
const (
	MaxEncoded = MaxDecoded + 4096
	MaxDecoded = 1 << 20
)

// Manifest is the content of a manifest.
type Manifest struct {
	// Type, ID and Time say for which snapshot the manifest was written;
	// the namespace is not recorded. See MovedFrom.
	Type name.Type
	ID   string
	Time name.Time

	// Files lists the usable entries in their order.
	Files []File
	// Problems says, as errors that match corrupt.Err, what was left out of
	// Files and why.
	Problems []error
	// Signature is the text of the signature, "" if there is none.
	Signature string
	// Raw is the JSON text as it was stored.
	Raw []byte

	// What follows is read from "unprotected": anyone who can write to the
	// server can change it, and no signature covers it.

	// Notes is the comment of the snapshot.
	Notes string
	// VerifyState is the result of the last verification: "ok", "failed",
	// or "" if there is none that is known.
	VerifyState string
	// VerifyTask is the id of the task that made this verification, "" if it is
	// not recorded. See VerifiedAt.
	VerifyTask string
	// SyncSource is the signature of the manifest that a server made this one
	// from when it encrypted or decrypted the snapshot on its way, "" if it did not.
	SyncSource string
	// UnprotectedProblems says which of these fields were unusable. Files
	// are not affected.
	UnprotectedProblems []error

	fingerprint    keys.Fingerprint
	hasFingerprint bool
}

// MemSize returns about how many bytes of memory the manifest takes.
func (m *Manifest) MemSize() int64 {
	const perFile = 200 // its name included
	return int64(2*len(m.Raw)) + perFile*int64(len(m.Files))
}

// KeyFingerprint tells which key the snapshot was made with, if that is
// recorded. It is unprotected, too.
func (m *Manifest) KeyFingerprint() (keys.Fingerprint, bool) {
	return m.fingerprint, m.hasFingerprint
}

// Decode reads the manifest from the complete file "index.json.blob".
func Decode(encoded []byte) (*Manifest, error) {
	if len(encoded) > MaxEncoded {
		return nil, corrupt.New("manifest is longer than %d bytes", MaxEncoded)
	}
	text, err := blob.Decode(nil, encoded, MaxDecoded, blob.MustPlain, nil)
	if err != nil {
		return nil, err
	}
	// The decoder has made room for more, and manifests are remembered.
	return parse(bytes.Clone(text))
}

// parse reads the JSON text, and keeps it.
func parse(text []byte) (*Manifest, error) {
	if !json.Valid(text) {
		return nil, corrupt.New("manifest is no valid JSON")
	}
	members, err := object("manifest", text,
		"backup-type", "backup-id", "backup-time", "files", "signature", "unprotected")
	if err != nil {
		return nil, err
	}
	m := &Manifest{Raw: text}
	if err := m.parseSnapshot(members); err != nil {
		return nil, err
	}
	if err := optional("signature", members["signature"], &m.Signature); err != nil {
		return nil, err
	}
	list := fileList{seen: make(map[name.File]bool)}
	if err := elements("list of files", members["files"], maxFiles, list.add); err != nil {
		return nil, err
	}
	m.Files, m.Problems = list.files, list.problems
	m.parseUnprotected(members["unprotected"])
	return m, nil
}

// parseSnapshot reads what says for which snapshot the manifest was written.
func (m *Manifest) parseSnapshot(members map[string]json.RawMessage) error {
	var typ, id string
	var sec int64
	if err := required("backup-type", members["backup-type"], &typ); err != nil {
		return err
	}
	if err := required("backup-id", members["backup-id"], &id); err != nil {
		return err
	}
	if err := required("backup-time", members["backup-time"], &sec); err != nil {
		return err
	}
	// The namespace is not recorded; the root serves to check the rest.
	group, err := name.NewGroup(name.Namespace{}, name.Type(shorten(typ)), shortenID(id))
	if err != nil {
		return corrupt.New("manifest: %v", err)
	}
	t, err := name.NewTime(time.Unix(sec, 0))
	if err != nil || t.Unix() != sec {
		return corrupt.New("manifest: backup-time %d is out of range", sec)
	}
	m.Type, m.ID, m.Time = group.Type(), group.ID(), t
	return nil
}

// shortenID cuts an id that is too long to be one, so that no error repeats
// all of it. What is cut stays too long.
func shortenID(id string) string { return id[:min(len(id), maxNameLen+1)] }

// parseUnprotected reads the fields that are not signed. None of them makes
// the snapshot unusable.
func (m *Manifest) parseUnprotected(value json.RawMessage) {
	if isNull(value) {
		return // as written before 0.8.0
	}
	members, err := object("unprotected", value, "notes", "key-fingerprint", "verify_state", "sync-source-signature")
	if err != nil {
		m.UnprotectedProblems = []error{err}
		return
	}
	for _, err := range []error{
		optional("notes", members["notes"], &m.Notes),
		optional("sync-source-signature", members["sync-source-signature"], &m.SyncSource),
		m.parseFingerprint(members["key-fingerprint"]),
		m.parseVerifyState(members["verify_state"]),
	} {
		if err != nil {
			m.UnprotectedProblems = append(m.UnprotectedProblems, err)
		}
	}
}

func (m *Manifest) parseFingerprint(value json.RawMessage) error {
	if isNull(value) {
		return nil
	}
	var text string
	if err := required("key-fingerprint", value, &text); err != nil {
		return err
	}
	f, err := keys.ParseFingerprint(text)
	if err != nil {
		return corrupt.New("%v", err)
	}
	m.fingerprint, m.hasFingerprint = f, true
	return nil
}

func (m *Manifest) parseVerifyState(value json.RawMessage) error {
	if isNull(value) {
		return nil
	}
	members, err := object("verify_state", value, "state", "upid")
	if err != nil {
		return err
	}
	var state string
	if err := required("state of verify_state", members["state"], &state); err != nil {
		return err
	}
	if state != "ok" && state != "failed" {
		return corrupt.New("unknown verify state %q", shorten(state))
	}
	m.VerifyState = state
	return optional("upid of verify_state", members["upid"], &m.VerifyTask)
}

// MovedFrom returns where the snapshot was made, as "type/id/time", if the
// manifest was not written for s: somebody has moved or renamed a directory since.
// Servers read such a snapshot, too.
func (m *Manifest) MovedFrom(s name.Snapshot) (from string, moved bool) {
	g := s.Group()
	if m.Type == g.Type() && m.ID == g.ID() && m.Time == s.Time() {
		return "", false
	}
	return string(m.Type) + "/" + m.ID + "/" + m.Time.String(), true
}

// Lookup returns the entry of the file.
func (m *Manifest) Lookup(file name.File) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == file })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// PayloadOf returns the entry of the payload half of a split archive whose
// metadata half is f; zero if there is none.
func (m *Manifest) PayloadOf(f File) File {
	half, ok := f.Name.Payload()
	if !ok {
		return File{}
	}
	payload, _ := m.Lookup(half)
	return payload
}

// Encrypted reports whether any file of the snapshot is encrypted.
func (m *Manifest) Encrypted() bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return f.Mode == CryptModeEncrypt })
}
