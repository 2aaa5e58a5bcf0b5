package pxar

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"

	"github.com/dchest/siphash"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Item types (reference "pxar", section 1).
const (
	itemVersion         = 0x730f6c75df16a40d
	itemPrelude         = 0xe309d79d9f7b771b
	itemEntry           = 0xd5956474e588acef
	itemEntryV1         = 0x11da850a1c1cceff
	itemFilename        = 0x16701121063917b3
	itemXattr           = 0x0dab0229b57dcd03
	itemACLUser         = 0x2ce8540a457d55b8
	itemACLGroup        = 0x136e3eceb04c03ab
	itemACLGroupObj     = 0x10868031e9582876
	itemACLDefault      = 0xbbbb13415a6896f5
	itemACLDefaultUser  = 0xc89357b40532cd1f
	itemACLDefaultGroup = 0xf90a8a5816038ffe
	itemFCaps           = 0x2da9dd9db5f7fb67
	itemQuotaProject    = 0xe07540e82f7d1cbb
	itemSymlink         = 0x27f971e7dbf5dc5f
	itemDevice          = 0x9fc9e906586d5ce9
	itemHardlink        = 0x51269c8422bd7275
	itemPayload         = 0x28147a1b0b7c1a25
	itemPayloadRef      = 0x419d3d6bc4ba977e
	itemGoodbye         = 0x2fec4fa642d5731d
	itemPayloadStart    = 0x834c68c2194a4ed2
	itemPayloadTail     = 0x6c72b78b984c81b5
)

// tailHash is the hash of a goodbye table's last entry, the tail.
const tailHash = 0xef5eed5b753e1555

// Keys of the hash over names (reference "pxar", section 5).
const (
	hashKey0 = 0x83ac3f1cfbb450db
	hashKey1 = 0xaa4f1b6879369fbd
)

func hashName(name []byte) uint64 { return siphash.Hash(hashKey0, hashKey1, name) }

// header is the header of an item that is known to lie inside its container.
type header struct {
	typ  uint64
	pos  int64 // of the header
	size int64 // header included
}

func (h header) content() int64    { return h.pos + headerSize }
func (h header) contentLen() int64 { return h.size - headerSize }
func (h header) end() int64        { return h.pos + h.size }

// header reads the header at pos and checks that its item ends inside w.
func (w *window) header(pos int64) (header, error) {
	b, err := w.bytes(pos, headerSize)
	if err != nil {
		return header{}, err
	}
	size := le64(b[8:])
	if size < headerSize || size > uint64(w.limit-pos) {
		return header{}, corrupt.At(pos, "item of %d bytes where %d are left", size, w.limit-pos)
	}
	return header{typ: le64(b), pos: pos, size: int64(size)}, nil
}

// content reads the content of an item that must have exactly n bytes of it.
func (w *window) content(h header, n int64) ([]byte, error) {
	if h.contentLen() != n {
		return nil, corrupt.At(h.pos, "item with %d bytes of content, want %d", h.contentLen(), n)
	}
	return w.bytes(h.content(), int(n))
}

// text reads content that is at most limit bytes and a terminating NUL, and
// has no other NUL.
func (w *window) text(h header, limit int64) ([]byte, error) {
	n := h.contentLen()
	if n < 2 || n > limit+1 {
		return nil, corrupt.At(h.pos, "text of %d bytes with its NUL, want 2 to %d", n, limit+1)
	}
	b, err := w.bytes(h.content(), int(n))
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(b, 0) != len(b)-1 {
		return nil, corrupt.At(h.pos, "text is not ended by its only NUL")
	}
	return b[:len(b)-1], nil
}

// filename reads the FILENAME item at pos, returning its name, valid until w
// is used again, and the position of what follows.
func (w *window) filename(pos int64) (name []byte, end int64, err error) {
	h, err := w.header(pos)
	if err != nil {
		return nil, 0, err
	}
	if h.typ != itemFilename {
		return nil, 0, corrupt.At(pos, "item of type %#016x, want a file name", h.typ)
	}
	name, err = w.text(h, maxName)
	if err != nil {
		return nil, 0, err
	}
	if bytes.IndexByte(name, '/') >= 0 || string(name) == "." || string(name) == ".." {
		return nil, 0, corrupt.At(pos, "%q is not a file name", name)
	}
	return name, h.end(), nil
}

// isName reports whether s can be the name of a child.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= maxName && !strings.ContainsAny(s, "/\x00")
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// offset returns a stored position or length, and whether it can be one.
func offset(v uint64) (int64, bool) { return int64(v), v <= math.MaxInt64 }
