package blob

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Encoder says how data becomes blobs. The zero Encoder stores it as it is. It
// is a value and safe for concurrent use.
type Encoder struct {
	// Key encrypts, unless it is nil.
	Key *keys.Key
	// Compress tries zstd; data that it does not make shorter stays as it is.
	Compress bool
}

// ErrSize matches the error about data that no blob or chunk can hold.
var ErrSize = errors.New("data has no size for a blob")

// errKey is about a key that encrypts nothing.
var errKey = errors.New("blob: key was not made by keys.New")

// Digest returns the name of the chunk that holds plain: keyed if key is not
// nil, which must then come from [keys.New].
func Digest(plain []byte, key *keys.Key) name.Digest {
	if key != nil {
		return key.Digest(plain)
	}
	return sha256.Sum256(plain)
}

// Digest is the function [Digest] with the key of c.
func (c Encoder) Digest(plain []byte) name.Digest { return Digest(plain, c.Key) }

// Encode returns the blob that holds plain, at most [MaxSize] bytes. It
// replaces what dst holds and uses its capacity, or lies elsewhere when that
// does not suffice; it never shares memory with plain.
func (c Encoder) Encode(dst, plain []byte) ([]byte, error) {
	if len(plain) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrSize, len(plain), MaxSize)
	}
	switch {
	case c.Key == nil:
		return c.plain(dst[:0], plain), nil
	case !c.Key.Usable():
		return nil, errKey
	}
	return c.encrypted(dst[:0], plain)
}

// EncodeChunk is [Encoder.Encode] for a chunk, which has from 1 to
// [MaxChunkSize] bytes. Its name is not computed: [Encoder.Digest] does that,
// mostly for chunks that turn out to be there already.
func (c Encoder) EncodeChunk(dst, plain []byte) ([]byte, error) {
	if len(plain) < 1 || len(plain) > MaxChunkSize {
		return nil, fmt.Errorf("%w: chunk of %d bytes, want 1 to %d", ErrSize, len(plain), MaxChunkSize)
	}
	return c.Encode(dst, plain)
}

// CouldHold reports whether a chunk file of that size can hold plain bytes as c,
// or any other encoder of its key, would encode them. A file that was cut off, by
// a full disk or a lost power supply, is mostly found out by that.
func (c Encoder) CouldHold(file int64, plain int) bool {
	header := int64(plainHeader)
	if c.Key != nil {
		header = encryptedHeader
	}
	return file > header && file <= header+int64(plain)
}

// plain builds a blob that is not encrypted in dst, which is empty.
func (c Encoder) plain(dst, plain []byte) []byte {
	dst = slices.Grow(dst, plainHeader+len(plain)+zstdSlack)[:plainHeader]
	if c.Compress {
		if out := compress(dst, plain); len(out)-plainHeader < len(plain) {
			return finish(out, Zstd)
		}
	}
	return finish(append(dst, plain...), Plain)
}

// encrypted builds an encrypted blob in dst, which is empty. The header is
// filled in last, so that the ciphertext is written where it stays.
func (c Encoder) encrypted(dst, plain []byte) ([]byte, error) {
	kind := Encrypted
	if c.Compress {
		scratch := scratches.Get().(*[]byte)
		defer putScratch(scratch)
		*scratch = compress(slices.Grow((*scratch)[:0], len(plain)+zstdSlack), plain)
		if len(*scratch) < len(plain) {
			kind, plain = EncryptedZstd, *scratch
		}
	}
	dst = slices.Grow(dst, encryptedHeader+len(plain)+keys.TagSize)[:encryptedHeader]
	out, iv, tag, err := c.Key.Seal(dst, plain)
	if err != nil {
		return nil, err
	}
	copy(out[crcEnd:], iv[:])
	copy(out[ivEnd:], tag[:])
	return finish(out, kind), nil
}

// finish fills in the part of the header that all kinds have. The CRC is of
// the payload only (reference "blobs-chunks-indexes", section 1).
func finish(out []byte, kind Kind) []byte {
	m := kind.magic()
	copy(out, m[:])
	binary.LittleEndian.PutUint32(out[magicSize:], crc32.ChecksumIEEE(out[kind.headerSize():]))
	return out
}

// magic returns the first bytes of blobs of the kind.
func (k Kind) magic() (m [magicSize]byte) {
	for m, kind := range magics {
		if kind == k {
			return m
		}
	}
	return m
}

// zstdSlack is what a zstd stream of incompressible data may be longer than
// the data, for the sizes there are: a frame header, and a header for each
// block of 128 KiB.
const zstdSlack = 32 + 3*(MaxChunkSize>>17)

// encoders keeps compressors. Each works in its caller's goroutine and has none
// of its own.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false)) // as official encoders: the blob has one
	if err != nil {
		panic("blob: options of the zstd encoder: " + err.Error()) // constants above
	}
	return e
}}

// compress appends plain as one zstd frame, which says how long it is.
func compress(dst, plain []byte) []byte {
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	return e.EncodeAll(plain, dst)
}
