package ntfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// content is an open file. It is an image.File.
type content struct {
	*stream
	// units are the units that were decompressed last.
	units *lru.Cache[int64, []byte]
}

// cachedUnits bounds the memory of an open file.
const cachedUnits = 4

func newContent(s *stream) *content {
	return &content{s, lru.New[int64, []byte](cachedUnits)}
}

// Size returns the length.
func (c *content) Size() int64 { return c.size }

// ReadAt is that of an image.File.
func (c *content) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	if c.unit == 0 {
		return c.readAt(r, p, off)
	}
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	if off >= c.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > c.size-off {
		p, end = p[:c.size-off], io.EOF
	}
	unit := c.unit * c.cluster
	for done := 0; done < len(p); {
		at := off + int64(done)
		if at >= c.valid {
			clear(p[done:])
			break
		}
		b, err := c.decoded(r, at/unit)
		if err != nil {
			return done, err
		}
		n := copy(p[done:min(len(p), done+int(c.valid-at))], b[at%unit:])
		done += n
	}
	return len(p), end
}

// decoded returns a unit, decompressed.
func (c *content) decoded(r io.ReaderAt, n int64) ([]byte, error) {
	if b, ok := c.units.Get(n); ok {
		return b, nil
	}
	stored, first := int64(0), n*c.unit
	for stored < c.unit {
		x, ok := c.find(first + stored)
		if !ok || x.lcn < 0 {
			break
		}
		stored = min(c.unit, x.vcn+x.count-first)
	}
	out := make([]byte, c.unit*c.cluster)
	if stored > 0 {
		in := out
		if stored < c.unit {
			in = make([]byte, stored*c.cluster)
		}
		if err := c.stored(r, in, first); err != nil {
			return nil, err
		}
		if stored < c.unit {
			if err := lznt1(out, in); err != nil {
				return nil, fmt.Errorf("unit from cluster %d: %w", first, err)
			}
		}
	}
	c.units.Put(n, out, 1)
	return out, nil
}

// stored reads clusters as they are stored.
func (c *content) stored(r io.ReaderAt, p []byte, vcn int64) error {
	for len(p) > 0 {
		x, ok := c.find(vcn)
		if !ok || x.lcn < 0 {
			return corrupt.New("unit has no cluster %d", vcn)
		}
		count := min(int64(len(p))/c.cluster, x.vcn+x.count-vcn)
		if err := image.ReadFull(r, p[:count*c.cluster], (x.lcn+vcn-x.vcn)*c.cluster); err != nil {
			return err
		}
		p, vcn = p[count*c.cluster:], vcn+count
	}
	return nil
}

// NextData is that of an image.File.
func (c *content) NextData(_ io.ReaderAt, off int64) (int64, error) {
	return c.next(off, true), nil
}

// NextHole is that of an image.File.
func (c *content) NextHole(_ io.ReaderAt, off int64) (int64, error) {
	return c.next(off, false), nil
}

// next returns the first offset at or after off that lies in data, or in a hole. In a
// compressed file a hole is a unit of which nothing is stored.
func (c *content) next(off int64, data bool) int64 {
	if c.value != nil || len(c.runs) == 0 {
		if data && c.value != nil {
			return min(off, c.size)
		}
		if !data && c.value == nil {
			return min(off, c.size)
		}
		return c.size
	}
	step := max(c.unit, 1)
	for at := off; at < c.size; {
		vcn := at / c.cluster / step * step
		x, ok := c.find(vcn)
		if (ok && x.lcn >= 0) == data {
			return at
		}
		if !ok {
			return c.size
		}
		next := x.vcn + x.count
		if c.unit > 0 {
			next = max(vcn+step, next/step*step)
		}
		at = next * c.cluster
	}
	return c.size
}

// chunkSize is how many bytes LZNT1 compresses together.
const chunkSize = 4096

// lznt1 decompresses in into out. What in does not fill is zeros.
func lznt1(out, in []byte) error {
	for len(in) >= 2 && len(out) > 0 {
		header := binary.LittleEndian.Uint16(in)
		if header == 0 {
			break
		}
		size := int(header&0xfff) + 1
		if in = in[2:]; size > len(in) {
			return corrupt.New("compressed chunk of %d bytes, of which %d are there", size, len(in))
		}
		chunk, room := in[:size], out[:min(chunkSize, len(out))]
		in, out = in[size:], out[len(room):]
		if header&0x8000 == 0 {
			copy(room, chunk)
			continue
		}
		if err := decodeChunk(room, chunk); err != nil {
			return err
		}
	}
	return nil
}

// decodeChunk decompresses a chunk. Groups of eight tokens follow a byte that says which of
// them refer to what was written before. The further the chunk has come, the more bits of a
// reference are its distance.
func decodeChunk(out, in []byte) error {
	n := 0
	for len(in) > 0 {
		tags := in[0]
		in = in[1:]
		for bit := 0; bit < 8 && len(in) > 0; bit++ {
			if tags>>bit&1 == 0 {
				if n == len(out) {
					return corrupt.New("compressed chunk is longer than it can be")
				}
				out[n], in = in[0], in[1:]
				n++
				continue
			}
			if len(in) < 2 || n == 0 {
				return corrupt.New("compressed chunk refers to nothing")
			}
			token := int(binary.LittleEndian.Uint16(in))
			in = in[2:]
			shift := 12
			for pos := n - 1; pos >= 0x10; pos >>= 1 {
				shift--
			}
			length, distance := token&(1<<shift-1)+3, token>>shift+1
			if distance > n || length > len(out)-n {
				return corrupt.New("compressed chunk refers to %d bytes before byte %d", distance, n)
			}
			for range length {
				out[n] = out[n-distance]
				n++
			}
		}
	}
	return nil
}
