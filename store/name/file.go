package name

import "strings"

// maxFileName is the longest name a directory entry can have.
const maxFileName = 255

// Format is how a file of a snapshot stores its content.
type Format uint8

// The formats, told by the extension of the stored name.
const (
	Dynamic Format = iota + 1 // .didx: index of chunks of varying length
	Fixed                     // .fidx: index of chunks of one length
	Blob                      // .blob: the content itself
)

// String returns the extension, without the dot.
func (f Format) String() string {
	switch f {
	case Dynamic:
		return "didx"
	case Fixed:
		return "fidx"
	case Blob:
		return "blob"
	}
	return "unknown"
}

// File is the stored name of a file in a snapshot: "root.pxar.didx".
type File struct {
	stored string
	format Format
}

// Files that have a meaning of their own.
var (
	Manifest     = File{"index.json.blob", Blob}
	ClientLog    = File{"client.log.blob", Blob}
	Catalog      = File{"catalog.pcat1.didx", Dynamic}
	EncryptedKey = File{"rsa-encrypted.key.blob", Blob}
)

// ParseFile reads a stored file name. A name that could leave its directory,
// or has none of the three extensions, is invalid.
func ParseFile(s string) (File, error) {
	if !isSafeID(s) || len(s) > maxFileName {
		return File{}, invalid("file", s, "want letters, digits, '_', '.' and '-', not starting with '.' or '-'")
	}
	for _, f := range []Format{Dynamic, Fixed, Blob} {
		if stem, ok := strings.CutSuffix(s, "."+f.String()); ok && stem != "" {
			return File{stored: s, format: f}, nil
		}
	}
	return File{}, invalid("file", s, "want the extension .didx, .fidx or .blob")
}

// FilesOf returns the stored names of what the official client calls stem:
// "root.pxar" is one stream, or with split two, the metadata first;
// "drive-scsi0.img" is a fixed index; everything else is stored in one piece.
func FilesOf(stem string, split bool) ([]File, error) {
	stored := []string{stem + "." + Blob.String()}
	switch archive, isArchive := strings.CutSuffix(stem, ".pxar"); {
	case isArchive && split:
		stored = []string{archive + ".mpxar." + Dynamic.String(), archive + ".ppxar." + Dynamic.String()}
	case isArchive:
		stored = []string{stem + "." + Dynamic.String()}
	case strings.HasSuffix(stem, ".img"):
		stored = []string{stem + "." + Fixed.String()}
	}
	var out []File
	for _, s := range stored {
		f, err := ParseFile(s)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// Format returns how the file stores its content.
func (f File) Format() Format { return f.format }

// String returns the stored name.
func (f File) String() string { return f.stored }

// Stem returns the name without the storage extension, as the official client
// uses it: "root.pxar", "drive-scsi0.img", "index.json".
func (f File) Stem() string { return strings.TrimSuffix(f.stored, "."+f.format.String()) }

// Content is what the inner extension of a file says about its content.
type Content uint8

// The contents that are more than a stream of bytes.
const (
	Stream      Content = iota // anything that is shown as it is
	Pxar                       // .pxar: a unified archive
	PxarMeta                   // .mpxar: the metadata of a split archive
	PxarPayload                // .ppxar: the payloads of a split archive
)

// Content tells what the file holds. Only dynamic indexes hold archives.
func (f File) Content() Content {
	if f.format != Dynamic {
		return Stream
	}
	switch stem := f.Stem(); {
	case strings.HasSuffix(stem, ".pxar"):
		return Pxar
	case strings.HasSuffix(stem, ".mpxar"):
		return PxarMeta
	case strings.HasSuffix(stem, ".ppxar"):
		return PxarPayload
	}
	return Stream
}

// Payload returns the payload file that belongs to the metadata file f, and
// whether f is one.
func (f File) Payload() (File, bool) {
	if f.Content() != PxarMeta {
		return File{}, false
	}
	return File{strings.TrimSuffix(f.stored, ".mpxar.didx") + ".ppxar.didx", Dynamic}, true
}

// ArchiveName returns the name the official client has for the archive in f:
// the two halves of a split archive are one "root.pxar".
func (f File) ArchiveName() string {
	stem := f.Stem()
	switch f.Content() {
	case PxarMeta:
		return strings.TrimSuffix(stem, ".mpxar") + ".pxar"
	case PxarPayload:
		return strings.TrimSuffix(stem, ".ppxar") + ".pxar"
	case Stream, Pxar:
	}
	return stem
}
