package blob

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Limits of the format (reference "blobs-chunks-indexes", section 1).
const (
	MaxSize         = 128 << 20                      // data of a blob
	MaxChunkSize    = 16 << 20                       // data of a chunk
	MaxEncodedChunk = MaxChunkSize + encryptedHeader // a chunk file
)

// ErrKeyNeeded is returned for encrypted data when there is no key.
var ErrKeyNeeded = errors.New("data is encrypted and needs a key")

// raw is a blob taken apart, its magic number, mode and CRC checked.
type raw struct {
	kind    Kind
	iv, tag []byte // nil unless encrypted
	payload []byte
}

// Decode returns the data of a blob, at most limit bytes and never more than
// [MaxSize]. key may be nil as long as the blob is not encrypted. The data
// replaces what dst holds and uses its capacity; the result lies elsewhere
// when that does not suffice. After an error the content of dst is undefined.
func Decode(dst, encoded []byte, limit int, mode Mode, key *keys.Key) ([]byte, error) {
	b, err := parse(encoded, mode, key)
	if err != nil {
		return nil, err
	}
	return b.data(dst[:0], min(max(limit, 0), MaxSize), key)
}

// DecodeChunk is [Decode] for a chunk: the result has exactly want bytes, and
// digest is their digest, keyed where the chunk is encrypted.
func DecodeChunk(dst, encoded []byte, want int, digest name.Digest, mode Mode, key *keys.Key) ([]byte, error) {
	if want < 1 || want > MaxChunkSize {
		return nil, corrupt.New("chunk %s: length %d is not from 1 to %d", digest, want, MaxChunkSize)
	}
	if len(encoded) > MaxEncodedChunk {
		return nil, corrupt.New("chunk %s: file is longer than %d bytes", digest, MaxEncodedChunk)
	}
	b, err := parse(encoded, mode, key)
	if err != nil {
		return nil, err
	}
	if b.kind.isCompressed() && cap(dst) < want {
		dst = make([]byte, 0, want)
	}
	data, err := b.data(dst[:0], want, key)
	if err != nil {
		return nil, err
	}
	if len(data) != want {
		return nil, corrupt.New("chunk %s holds %d bytes, its index says %d", digest, len(data), want)
	}
	if got := chunkDigest(data, b.kind, key); got != digest {
		return nil, corrupt.New("chunk %s holds data of digest %s", digest, got)
	}
	return data, nil
}

// chunkDigest computes the digest that a chunk of that kind must have. There
// is no fallback to the other sort: the same data has two names.
func chunkDigest(data []byte, kind Kind, key *keys.Key) name.Digest {
	if kind.IsEncrypted() {
		return Digest(data, key)
	}
	return Digest(data, nil)
}

// parse takes a blob apart and makes every check that needs no decoding.
func parse(encoded []byte, mode Mode, key *keys.Key) (raw, error) {
	kind, err := ReadKind(encoded)
	if err != nil {
		return raw{}, err
	}
	if err := mode.check(kind); err != nil {
		return raw{}, err
	}
	if len(encoded) < kind.headerSize() {
		return raw{}, corrupt.At(0, "blob of %d bytes is shorter than its header of %d", len(encoded), kind.headerSize())
	}
	b := raw{kind: kind, payload: encoded[kind.headerSize():]}
	stored := binary.LittleEndian.Uint32(encoded[magicSize:crcEnd])
	if sum := crc32.ChecksumIEEE(b.payload); sum != stored {
		return raw{}, corrupt.At(magicSize, "blob has CRC %08x, its header says %08x", sum, stored)
	}
	if kind.IsEncrypted() {
		if key == nil {
			return raw{}, ErrKeyNeeded
		}
		b.iv, b.tag = encoded[crcEnd:ivEnd], encoded[ivEnd:tagEnd]
	}
	return b, nil
}

// data appends the plain data, at most limit bytes, to dst, which is empty.
func (b raw) data(dst []byte, limit int, key *keys.Key) ([]byte, error) {
	if !b.kind.isCompressed() && len(b.payload) > limit {
		// Encryption keeps the length, so this needs no decryption.
		return nil, tooLong(limit)
	}
	switch b.kind {
	case Zstd:
		return unzstd(dst, b.payload, limit)
	case Encrypted:
		return key.Open(dst, b.iv, b.tag, b.payload)
	case EncryptedZstd:
		return b.openZstd(dst, limit, key)
	case Plain:
	}
	return append(dst, b.payload...), nil
}

// openZstd decrypts into a scratch buffer and decompresses from there.
func (b raw) openZstd(dst []byte, limit int, key *keys.Key) ([]byte, error) {
	scratch := scratches.Get().(*[]byte)
	defer putScratch(scratch)
	stream, err := key.Open((*scratch)[:0], b.iv, b.tag, b.payload)
	if err != nil {
		return nil, err
	}
	*scratch = stream
	return unzstd(dst, stream, limit)
}

func tooLong(limit int) error {
	return corrupt.New("blob holds more than the %d bytes it may", limit)
}

// scratches keeps buffers for decrypted zstd streams. What is larger than a
// chunk is not kept.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

func putScratch(b *[]byte) {
	if cap(*b) <= 2*MaxChunkSize {
		scratches.Put(b)
	}
}
