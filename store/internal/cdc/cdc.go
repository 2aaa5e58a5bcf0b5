package cdc

import (
	"bufio"
	"errors"
	"io"
	"math/bits"
)

// Chunker cuts the stream of a reader into chunks. Apart from
// [Chunker.Suggest] it is not safe for concurrent use.
type Chunker struct {
	r           *bufio.Reader
	least, most int    // lengths of a chunk
	mask        uint32 // the bits of the hash that matter
	pos         int64  // where the next chunk begins
	ends        suggestions
}

const (
	window     = 64   // bytes that the hash depends on
	highest    = 3    // how many values of the hash are ends
	minAverage = 1024 // leaves room for the window
	readSize   = 256 << 10
	// lookAhead is how far behind an end that the hash found a suggested one may
	// be to win.
	lookAhead = 256 << 10
)

// New returns a chunker of what r delivers. Chunks are about average bytes
// long, a power of two of at least 1,024; they are between a quarter and four
// times of it, and only the last one may be shorter.
func New(r io.Reader, average int) *Chunker {
	average = 1 << (bits.Len(uint(max(average, minAverage))) - 1)
	return &Chunker{
		// One byte more tells that all suggestions within reach were made.
		r:     bufio.NewReaderSize(r, readSize+lookAhead+1),
		least: average / 4, most: 4 * average,
		mask: uint32(2*average - 1),
	}
}

// Max returns the length of the longest chunk there can be.
func (c *Chunker) Max() int { return c.most }

// Suggest tells that the stream is well cut before its byte at off. It must be
// called in the order of the offsets, and before the reader delivers that byte;
// it may be called beside Next.
func (c *Chunker) Suggest(off int64) { c.ends.add(off) }

// Next returns the next chunk. It lies in buf, whose content is overwritten,
// if it fits; [Chunker.Max] bytes of capacity are always enough. At the end
// of the stream the error is io.EOF; another one is the reader's, as it is, and
// what was read before it is lost.
func (c *Chunker) Next(buf []byte) ([]byte, error) {
	buf = buf[:0]
	for found := false; !found; {
		data, err := c.peek()
		if errors.Is(err, io.EOF) && len(buf) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		old := len(buf)
		buf = append(buf, data[:min(len(data), readSize, c.most-old)]...)
		var n int
		if n, found = c.hashed(buf, old); found {
			data, _ = c.r.Peek(n - old + lookAhead + 1) // at the end it is less
		}
		if s, ok := c.suggested(old, n, found); ok {
			n, found = s, true
			buf = append(buf[:old], data[:n-old]...)
		}
		buf = buf[:n]
		if _, err := c.r.Discard(n - old); err != nil {
			return nil, err
		}
	}
	c.pos += int64(len(buf))
	return buf, nil
}

// peek returns some of what comes next, without taking it.
func (c *Chunker) peek() ([]byte, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	return c.r.Peek(c.r.Buffered())
}

// hashed returns where a chunk that begins with buf ends, by its hash or because
// it may not be longer. That it does not end within the first old bytes is known.
func (c *Chunker) hashed(buf []byte, old int) (n int, found bool) {
	first := max(old+1, c.least) // the shortest length that is looked at
	if len(buf) >= first {
		if n, found = c.roll(buf, first); found {
			return n, true
		}
	}
	return len(buf), len(buf) == c.most
}

// roll looks for an end from length first on.
func (c *Chunker) roll(buf []byte, first int) (n int, found bool) {
	hash := uint32(0)
	for _, b := range buf[first-1-window : first-1] {
		hash = bits.RotateLeft32(hash, 1) ^ table[b]
	}
	enter := buf[first-1:]
	leave := buf[first-1-window:][:len(enter)]
	mask, end := c.mask, c.mask-(highest-1)
	for i, b := range enter {
		// The window is twice as long as the hash has bits, so that what
		// leaves has been rotated back to where it was.
		hash = bits.RotateLeft32(hash, 1) ^ table[leave[i]] ^ table[b]
		if hash&mask >= end {
			return first + i, true
		}
	}
	return 0, false
}

// suggested returns the length of a chunk that ends where it was suggested, at
// old at the earliest. Without that it has n bytes at least, and ends there if
// found.
func (c *Chunker) suggested(old, n int, found bool) (length int, ok bool) {
	last := n
	if found {
		last = min(n+lookAhead, c.most)
	}
	off, ok := c.ends.next(c.pos+int64(max(old, c.least)), c.pos+int64(last))
	return int(off - c.pos), ok
}
