package manifest

import (
	"encoding/hex"
	"encoding/json"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

const (
	// maxFiles is far above what any client writes.
	maxFiles = 1 << 16
	// maxProblems limits what a hostile manifest can have to say.
	maxProblems = 100
	// maxSize is the largest size a file can have, as for indexes.
	maxSize = 1 << 62
	// maxNameLen is the longest name a directory entry can have.
	maxNameLen = 255
)

// CryptMode says how the data of a file is protected.
type CryptMode uint8

// The modes. The zero CryptMode is none of them.
const (
	CryptModeNone     CryptMode = iota + 1
	CryptModeEncrypt            // data is encrypted, the manifest signed
	CryptModeSignOnly           // data is not encrypted, the manifest signed
)

// String returns the mode as manifests have it.
func (m CryptMode) String() string {
	switch m {
	case CryptModeNone:
		return "none"
	case CryptModeEncrypt:
		return "encrypt"
	case CryptModeSignOnly:
		return "sign-only"
	}
	return "unknown"
}

var cryptModes = [...]CryptMode{CryptModeNone, CryptModeEncrypt, CryptModeSignOnly}

func parseCryptMode(s string) (CryptMode, error) {
	for _, m := range cryptModes {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, corrupt.New("unknown crypt mode %q", shorten(s))
}

// File is what a manifest says about one file of the snapshot.
type File struct {
	Name name.File
	// Size is the length of the archive or image for an index, and of the
	// encoded file for a blob.
	Size int64
	// Csum is the checksum over the entries of an index, and over the
	// encoded file for a blob.
	Csum [32]byte
	Mode CryptMode
}

// BlobMode returns which kinds of blobs may hold the data of f.
func (f File) BlobMode() blob.Mode {
	if f.Name == name.EncryptedKey {
		// Encrypted by its own means inside a plain blob, whatever the
		// crypt mode of the backup is.
		return blob.MustPlain
	}
	switch f.Mode {
	case CryptModeEncrypt:
		return blob.MustEncrypted
	case CryptModeNone, CryptModeSignOnly:
		return blob.MustPlain
	}
	return 0 // accepts nothing
}

// fileList collects the usable entries and the complaints about others.
type fileList struct {
	files    []File
	problems []error
	seen     map[name.File]bool
}

// problem records a complaint, unless there are too many already.
func (l *fileList) problem(format string, args ...any) {
	switch {
	case len(l.problems) < maxProblems:
		l.problems = append(l.problems, corrupt.New(format, args...))
	case len(l.problems) == maxProblems:
		l.problems = append(l.problems, corrupt.New("manifest has more than %d problems", maxProblems))
	}
}

// add takes in entry i of the list of files.
func (l *fileList) add(i int, element []byte) {
	members, err := object("entry", element, "filename", "size", "csum", "crypt-mode")
	if err != nil {
		l.problem("file %d of the manifest: %v", i, err)
		return
	}
	file, err := parseName(members["filename"])
	switch {
	case err != nil:
		l.problem("file %d of the manifest: %v", i, err)
		return
	case l.seen[file]:
		l.problem("file %d of the manifest: %s is listed before", i, file)
		return
	}
	// Noted before the rest is looked at: if the first entry is unusable,
	// one behind it must not take its place.
	l.seen[file] = true
	f, err := parseFile(file, members)
	if err != nil {
		l.problem("file %s of the manifest: %v", file, err)
		return
	}
	l.files = append(l.files, f)
}

// parseName reads a file name, which becomes part of a path.
func parseName(value json.RawMessage) (name.File, error) {
	var s string
	if err := required("filename", value, &s); err != nil {
		return name.File{}, err
	}
	if len(s) > maxNameLen {
		return name.File{}, corrupt.New("file name %q is too long", shorten(s))
	}
	file, err := name.ParseFile(s)
	if err != nil {
		return name.File{}, corrupt.New("%v", err)
	}
	if file == name.Manifest {
		return name.File{}, corrupt.New("the manifest lists itself")
	}
	return file, nil
}

// parseFile reads the members of an entry other than its name.
func parseFile(file name.File, members map[string]json.RawMessage) (File, error) {
	var size uint64
	if err := required("size", members["size"], &size); err != nil {
		return File{}, err
	}
	if size > maxSize {
		return File{}, corrupt.New("size %d is more than %d", size, uint64(maxSize))
	}
	csum, err := parseCsum(members["csum"])
	if err != nil {
		return File{}, err
	}
	text := CryptModeNone.String()
	if err := optional("crypt-mode", members["crypt-mode"], &text); err != nil {
		return File{}, err
	}
	mode, err := parseCryptMode(text)
	if err != nil {
		return File{}, err
	}
	return File{Name: file, Size: int64(size), Csum: csum, Mode: mode}, nil
}

// parseCsum reads 64 hex digits.
func parseCsum(value json.RawMessage) ([32]byte, error) {
	var sum [32]byte
	var s string
	if err := required("csum", value, &s); err != nil {
		return sum, err
	}
	if len(s) != 2*len(sum) {
		return sum, corrupt.New("csum %q is not 64 hex digits", shorten(s))
	}
	if _, err := hex.Decode(sum[:], []byte(s)); err != nil {
		return [32]byte{}, corrupt.New("csum %q is not 64 hex digits", s)
	}
	return sum, nil
}
