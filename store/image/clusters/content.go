package clusters

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// crossed reports whether runs have a cluster in common.
func crossed(runs []Run) bool {
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b Run) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].First+sorted[i-1].Count > sorted[i].First {
			return true
		}
	}
	return false
}

// Heap is where the clusters lie.
type Heap struct {
	Off  int64 // of the first cluster
	Size int64 // of a cluster, in bytes
}

// Content is a file, or a directory, as bytes. It is an image.File.
type Content struct {
	heap  Heap
	runs  []Run
	ends  []int64 // where each run ends, in the content
	size  int64
	valid int64 // what follows was never written, and is zeros
	err   error // why what follows the runs cannot be read
}

// NewContent returns the content in runs. Of its size, valid bytes were written; what
// follows is zeros. err says why the runs end before, nil if they do not.
func NewContent(heap Heap, runs []Run, size, valid int64, err error) *Content {
	c := &Content{heap: heap, runs: runs, size: size, valid: min(valid, size), err: err}
	var end int64
	for _, run := range runs {
		end += int64(run.Count) * heap.Size
		c.ends = append(c.ends, end)
	}
	return c
}

// Size returns the length.
func (c *Content) Size() int64 { return c.size }

// Err returns why the content ends too early, nil if it does not.
func (c *Content) Err() error { return c.err }

// held returns how many bytes lie in the runs.
func (c *Content) held() int64 {
	if len(c.ends) == 0 {
		return 0
	}
	return c.ends[len(c.ends)-1]
}

// ReadAt is that of an image.File.
func (c *Content) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
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
	for done := 0; done < len(p); {
		n, err := c.read(r, p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(p), end
}

// read reads what lies side by side.
func (c *Content) read(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off >= c.valid {
		clear(p)
		return len(p), nil
	}
	p = p[:min(int64(len(p)), c.valid-off)]
	if off >= c.held() {
		if c.err != nil {
			return 0, c.err
		}
		return 0, corrupt.New("content ends after %d of %d bytes", c.held(), c.size)
	}
	i := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > off })
	run, begin := c.runs[i], c.ends[i]-int64(c.runs[i].Count)*c.heap.Size
	p = p[:min(int64(len(p)), c.ends[i]-off)]
	at := c.heap.Off + int64(run.First-First)*c.heap.Size + off - begin
	if err := image.ReadFull(r, p, at); err != nil {
		return 0, err
	}
	return len(p), nil
}

// NextData is that of an image.File: there are no holes but what was never written.
func (c *Content) NextData(_ io.ReaderAt, off int64) (int64, error) {
	if off >= c.valid {
		return c.size, nil
	}
	return off, nil
}

// NextHole is that of an image.File.
func (c *Content) NextHole(_ io.ReaderAt, off int64) (int64, error) {
	return max(min(c.valid, c.size), min(off, c.size)), nil
}

// Where returns where a byte of the content lies on the disk, and how many follow there; -1
// if it lies nowhere.
func (c *Content) Where(off int64) (at, room int64) {
	if off < 0 || off >= c.held() {
		return -1, 0
	}
	i := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > off })
	begin := c.ends[i] - int64(c.runs[i].Count)*c.heap.Size
	return c.heap.Off + int64(c.runs[i].First-First)*c.heap.Size + off - begin, c.ends[i] - off
}
