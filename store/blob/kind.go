package blob

import (
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
)

// Kind is how a blob stores its data.
type Kind uint8

// The kinds. The zero Kind is none.
const (
	Plain Kind = iota + 1
	Zstd
	Encrypted
	EncryptedZstd
)

// The parts of a header (reference "blobs-chunks-indexes", section 1).
const (
	magicSize       = 8
	crcEnd          = magicSize + 4
	ivEnd           = crcEnd + keys.IVSize
	tagEnd          = ivEnd + keys.TagSize
	plainHeader     = crcEnd
	encryptedHeader = tagEnd
)

// magics tells the kind by the first bytes of a blob.
var magics = map[[magicSize]byte]Kind{
	{0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1}: Plain,
	{0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f}: Zstd,
	{0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0}: Encrypted,
	{0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b}: EncryptedZstd,
}

// ReadKind tells the kind of the blob that begins with head, of which it needs
// the first eight bytes.
func ReadKind(head []byte) (Kind, error) {
	if len(head) < magicSize {
		return 0, corrupt.At(0, "blob of %d bytes is shorter than its magic number", len(head))
	}
	kind, ok := magics[[magicSize]byte(head)]
	if !ok {
		return 0, corrupt.At(0, "unknown blob magic number %x", head[:magicSize])
	}
	return kind, nil
}

// IsEncrypted reports whether a key is needed to read the data.
func (k Kind) IsEncrypted() bool { return k == Encrypted || k == EncryptedZstd }

// isCompressed reports whether the data is a zstd stream.
func (k Kind) isCompressed() bool { return k == Zstd || k == EncryptedZstd }

// headerSize is where the payload begins.
func (k Kind) headerSize() int {
	if k.IsEncrypted() {
		return encryptedHeader
	}
	return plainHeader
}

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Plain:
		return "plain"
	case Zstd:
		return "zstd"
	case Encrypted:
		return "encrypted"
	case EncryptedZstd:
		return "encrypted zstd"
	}
	return "unknown"
}

// Mode says which kinds a reader accepts. The zero Mode accepts none, so that
// a mode that was forgotten does not open the door.
type Mode uint8

// The modes.
const (
	AnyKind       Mode = iota + 1 // nothing is recorded about the blob
	MustPlain                     // plain and zstd only
	MustEncrypted                 // encrypted kinds only
)

// String names the mode.
func (m Mode) String() string {
	switch m {
	case AnyKind:
		return "any"
	case MustPlain:
		return "unencrypted"
	case MustEncrypted:
		return "encrypted"
	}
	return "unknown"
}

// check complains about a kind that the mode does not accept.
func (m Mode) check(kind Kind) error {
	switch {
	case m == AnyKind,
		m == MustPlain && !kind.IsEncrypted(),
		m == MustEncrypted && kind.IsEncrypted():
		return nil
	}
	return corrupt.At(0, "blob is of kind %q, but %s data is recorded", kind, m)
}
