package cdc

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// Chunker cuts the stream of a reader into chunks. It is not safe for
// concurrent use.
type Chunker struct {
	r *bufio.Reader
	// Positions in a chunk: where hashing begins, where it may end, where the
	// threshold changes, where it must end.
	hashed, least, normal, most int
	strict, loose               uint64 // thresholds before and behind normal
	gear                        *[256]uint64
}

const (
	window     = 64   // bytes that a hash of 64 bits depends on
	minAverage = 1024 // leaves room for the window
	readSize   = 256 << 10
)

// gear is what each byte adds to the hash; it is never changed.
var gear = func() (g [256]uint64) {
	for i := range g {
		sum := sha256.Sum256([]byte{byte(i)})
		g[i] = binary.LittleEndian.Uint64(sum[:])
	}
	return g
}()

// New returns a chunker of what r delivers. Chunks are average bytes long in
// the mean, at least 1,024, between a quarter and four times of it, and only
// the last one may be shorter.
func New(r io.Reader, average int) *Chunker {
	average = max(average, minAverage)
	every := math.MaxUint64 / uint64(average)
	return &Chunker{
		r:      bufio.NewReaderSize(r, readSize),
		hashed: average/4 - window, least: average / 4, most: 4 * average,
		// With one end in 4 averages before and four in one behind, the change
		// at 13/16 puts the mean length at the average.
		normal: average / 16 * 13, strict: every / 4, loose: every * 4,
		gear: &gear,
	}
}

// Max returns the length of the longest chunk there can be.
func (c *Chunker) Max() int { return c.most }

// Next returns the next chunk. It lies in buf, whose content is overwritten,
// if it fits; [Chunker.Max] bytes of capacity are always enough. At the end
// of the stream the error is io.EOF; another one is the reader's, as it is, and
// what was read before it is lost.
func (c *Chunker) Next(buf []byte) ([]byte, error) {
	buf = buf[:0]
	hash := uint64(0)
	for len(buf) < c.most {
		data, err := c.peek()
		if errors.Is(err, io.EOF) && len(buf) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		end, threshold := c.stretch(len(buf))
		data = data[:min(len(data), end-len(buf))]
		n, found := len(data), false
		if len(buf) >= c.hashed {
			hash, n, found = c.cut(hash, data, threshold)
		}
		buf = append(buf, data[:n]...)
		if _, err := c.r.Discard(n); err != nil {
			return nil, err
		}
		if found {
			break
		}
	}
	return buf, nil
}

// peek returns some of what comes next, without taking it.
func (c *Chunker) peek() ([]byte, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	return c.r.Peek(c.r.Buffered())
}

// stretch returns the threshold at a position in a chunk, and how far it holds.
func (c *Chunker) stretch(pos int) (end int, threshold uint64) {
	switch {
	case pos < c.hashed:
		return c.hashed, 0
	case pos < c.least:
		return c.least, 0
	case pos < c.normal:
		return c.normal, c.strict
	}
	return c.most, c.loose
}

// cut rolls the hash over data until it is below the threshold, and returns
// it, how many bytes it took, and whether it is.
func (c *Chunker) cut(hash uint64, data []byte, threshold uint64) (rolled uint64, n int, found bool) {
	table := c.gear
	for i, b := range data {
		if hash = hash<<1 + table[b]; hash < threshold {
			return hash, i + 1, true
		}
	}
	return hash, len(data), false
}
