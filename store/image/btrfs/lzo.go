package btrfs

import (
	"encoding/binary"
	"errors"
	"io"
)

var errLZO = errors.New("impossible lzo stream")

// unlzo decompresses an extent: its length, and segments with a length in front of each, which are
// a sector when they are decompressed. A length does not cross the end of a sector: what is left
// there is padding.
func unlzo(src []byte, limit, sectorSize int) ([]byte, error) {
	const field = 4
	le := binary.LittleEndian
	if len(src) < field {
		return nil, io.ErrUnexpectedEOF
	}
	total := le.Uint32(src)
	if total < field || uint64(total) > uint64(len(src)) {
		return nil, errLZO
	}
	p := make([]byte, 0, limit)
	for at, end := field, int(total); at < end; {
		if left := sectorSize - at%sectorSize; left < field {
			at += left
		}
		if at+field > end {
			if at >= end {
				break
			}
			return nil, errLZO
		}
		n := le.Uint32(src[at:])
		at += field
		if n == 0 || uint64(n) > uint64(end-at) {
			return nil, errLZO
		}
		var err error
		if p, err = lzoSegment(p, src[at:at+int(n)], min(limit, len(p)+sectorSize)); err != nil {
			return nil, err
		}
		at += int(n)
	}
	return p, nil
}

// lzoReader reads a stream; what is behind its end is 0, and remembered.
type lzoReader struct {
	p   []byte
	end bool
}

func (r *lzoReader) byte() int {
	if len(r.p) == 0 {
		r.end = true
		return 0
	}
	b := r.p[0]
	r.p = r.p[1:]
	return int(b)
}

func (r *lzoReader) word() int {
	low := r.byte()
	return low | r.byte()<<8
}

// length returns a length that has so many bits in its instruction; 0 there says that more bytes follow.
func (r *lzoReader) length(instruction, bits int) int {
	mask := 1<<bits - 1
	if n := instruction & mask; n != 0 {
		return n
	}
	for n := mask; ; n += 255 {
		if b := r.byte(); b != 0 || r.end {
			return n + b
		}
	}
}

// lzoSegment appends what an LZO1X stream decompresses to, up to a length of limit.
func lzoSegment(dst, src []byte, limit int) ([]byte, error) {
	r := lzoReader{p: src}
	start := len(dst) // nothing before it is referred to
	literals := func(n int) bool {
		if n > len(r.p) || n > limit-len(dst) {
			return false
		}
		dst, r.p = append(dst, r.p[:n]...), r.p[n:]
		return true
	}
	state := 0 // literals that the last instruction copied, 4 for more
	if len(src) > 0 && src[0] > 17 {
		n := r.byte() - 17
		if !literals(n) {
			return nil, errLZO
		}
		state = min(n, 4)
	}
	for {
		var length, distance, next int // next: literals that follow
		switch b := r.byte(); {
		case b < 16 && state == 0:
			if !literals(r.length(b, 4) + 3) {
				return nil, errLZO
			}
			state = 4
			continue
		case b < 16 && state < 4:
			length, next = 2, b&3
			distance = r.byte()<<2 + b>>2 + 1
		case b < 16:
			length, next = 3, b&3
			distance = r.byte()<<2 + b>>2 + 2049
		case b < 32:
			length = r.length(b, 3) + 2
			w := r.word()
			distance, next = 16384+(b&8)<<11+w>>2, w&3
			if distance == 16384 { // the end
				if r.end || len(r.p) > 0 || length != 3 {
					return nil, errLZO
				}
				return dst, nil
			}
		case b < 64:
			length = r.length(b, 5) + 2
			w := r.word()
			distance, next = w>>2+1, w&3
		case b < 128:
			length, next = b>>5&1+3, b&3
			distance = r.byte()<<3 + b>>2&7 + 1
		default:
			length, next = b>>5&3+5, b&3
			distance = r.byte()<<3 + b>>2&7 + 1
		}
		if r.end || distance > len(dst)-start || length > limit-len(dst) {
			return nil, errLZO
		}
		for range length { // what is copied may be what is being appended
			dst = append(dst, dst[len(dst)-distance])
		}
		if !literals(next) {
			return nil, errLZO
		}
		state = next
	}
}
