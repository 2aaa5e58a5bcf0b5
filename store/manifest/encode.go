package manifest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Draft is a manifest that is to be written.
type Draft struct {
	Snapshot name.Snapshot // the namespace is not recorded
	// Files lists the files of the snapshot, in any order. The manifest
	// itself and the client's log are not among them.
	Files []File
	// Key signs the manifest, unless it is nil, and its fingerprint is
	// recorded. It is a must when files are encrypted or signed.
	Key *keys.Key

	// What follows is not signed.

	Notes string       // none is recorded if it is ""
	Stats *UploadStats // none are recorded if nil
}

// UploadStats is what the server says about the chunks that a backup uploaded.
type UploadStats struct {
	Count          uint64
	Size           uint64 // bytes of their data
	CompressedSize uint64 // bytes of their files
	Duplicates     uint64 // those of them that were there already
}

// ErrDraft matches every error about a draft that is no manifest.
var ErrDraft = errors.New("not a manifest")

// Encode returns the complete file "index.json.blob".
func (d *Draft) Encode() ([]byte, error) {
	text, err := d.JSON()
	if err != nil {
		return nil, err
	}
	if len(text) > MaxDecoded {
		return nil, fmt.Errorf("%w: %d bytes of JSON, want at most %d", ErrDraft, len(text), MaxDecoded)
	}
	file, err := blob.Encoder{Compress: true}.Encode(nil, text)
	if err != nil {
		return nil, err
	}
	if len(file) > MaxEncoded {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrDraft, len(file), MaxEncoded)
	}
	return file, nil
}

// JSON returns the text of the manifest, signed if there is a key, as official
// clients and servers print it: members in the order of their bytes, indented
// by two spaces (reference "datastore-layout", section 6).
func (d *Draft) JSON() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	g := d.Snapshot.Group()
	all := signedPart(g.Type(), g.ID(), d.Snapshot.Time(), d.Files)
	var signature any
	if d.Key != nil {
		text, err := appendCanonical(nil, all, 0)
		if err != nil {
			return nil, err
		}
		sum := d.Key.Sign(text)
		signature = hex.EncodeToString(sum[:])
	}
	all["signature"] = signature
	all["unprotected"] = d.unprotected()
	return appendPretty(nil, all, ""), nil
}

// signedPart returns the members of a manifest that a signature covers.
func signedPart(typ name.Type, id string, t name.Time, list []File) map[string]any {
	files := make([]any, len(list))
	for i, f := range list {
		files[i] = map[string]any{
			"filename":   f.Name.String(),
			"crypt-mode": f.Mode.String(),
			"size":       number(f.Size),
			"csum":       hex.EncodeToString(f.Csum[:]),
		}
	}
	return map[string]any{
		"backup-type": string(typ),
		"backup-id":   id,
		"backup-time": number(t.Unix()),
		"files":       files,
	}
}

func number(v int64) json.Number { return json.Number(strconv.FormatInt(v, 10)) }

// unprotected returns the members that no signature covers.
func (d *Draft) unprotected() map[string]any {
	members := make(map[string]any)
	if d.Notes != "" {
		members["notes"] = d.Notes
	}
	if d.Key != nil {
		members["key-fingerprint"] = d.Key.Fingerprint().String()
	}
	if s := d.Stats; s != nil {
		stats := make(map[string]any)
		for member, v := range map[string]uint64{
			"count": s.Count, "size": s.Size, "compressed_size": s.CompressedSize, "duplicates": s.Duplicates,
		} {
			stats[member] = json.Number(strconv.FormatUint(v, 10))
		}
		members["chunk_upload_stats"] = stats
	}
	return members
}

// check complains about what could not be read again as it was meant.
func (d *Draft) check() error {
	switch {
	case d.Snapshot == name.Snapshot{}:
		return fmt.Errorf("%w: of no snapshot", ErrDraft)
	case len(d.Files) > maxFiles:
		return fmt.Errorf("%w: %d files, want at most %d", ErrDraft, len(d.Files), maxFiles)
	case !utf8.ValidString(d.Notes):
		return fmt.Errorf("%w: notes are not UTF-8", ErrDraft)
	case d.Key != nil && !d.Key.Usable():
		return fmt.Errorf("%w: key was not made by keys.New", ErrDraft)
	}
	seen := make(map[name.File]bool, len(d.Files))
	for _, f := range d.Files {
		if seen[f.Name] {
			return fmt.Errorf("%w: %s is listed twice", ErrDraft, f.Name)
		}
		seen[f.Name] = true
		if err := d.checkFile(f); err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) checkFile(f File) error {
	switch {
	case f.Name == name.File{} || f.Name == name.Manifest || f.Name == name.ClientLog:
		return fmt.Errorf("%w: lists %q", ErrDraft, f.Name)
	case f.Size < 0 || f.Size > maxSize:
		return fmt.Errorf("%w: %s has size %d", ErrDraft, f.Name, f.Size)
	case !slices.Contains(cryptModes[:], f.Mode):
		return fmt.Errorf("%w: %s has no crypt mode", ErrDraft, f.Name)
	case f.Mode != CryptModeNone && d.Key == nil:
		return fmt.Errorf("%w: %s is %s, but there is no key", ErrDraft, f.Name, f.Mode)
	}
	return nil
}

// appendPretty writes a value for people: one member or element a line.
func appendPretty(out []byte, v any, indent string) []byte {
	deeper := indent + "  "
	switch v := v.(type) {
	case nil:
		return append(out, "null"...)
	case map[string]any:
		if len(v) == 0 {
			return append(out, "{}"...)
		}
		sep := "{\n"
		for _, member := range sortedNames(v) {
			out = append(append(out, sep...), deeper...)
			out = append(appendString(out, member), ": "...)
			out = appendPretty(out, v[member], deeper)
			sep = ",\n"
		}
		return append(append(append(out, '\n'), indent...), '}')
	case []any:
		if len(v) == 0 {
			return append(out, "[]"...)
		}
		sep := "[\n"
		for _, element := range v {
			out = append(append(out, sep...), deeper...)
			out = appendPretty(out, element, deeper)
			sep = ",\n"
		}
		return append(append(append(out, '\n'), indent...), ']')
	case string:
		return appendString(out, v)
	}
	return fmt.Append(out, v) // a number
}
