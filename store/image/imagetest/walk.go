package imagetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/image"
)

// Bounds of a walk through a tree that may be damaged.
const (
	maxObjects = 20_000
	maxDepth   = 120
	maxRead    = 8 << 20 // bytes of a file, in all of its data
)

// seen is what a walk found out about a path: all of it as text, and the first error.
type seen struct {
	text string
	err  error // of the object
	list error // of the listing of a directory
}

// Walk reads everything that a decoder shows, with content if so wanted, within bounds that
// a damaged image does not set. It returns the errors.
func Walk(fsys image.FileSystem, r io.ReaderAt, content bool) []error {
	var all []error
	walk(fsys, r, content, func(_ string, s seen) {
		for _, err := range []error{s.err, s.list} {
			if err != nil {
				all = append(all, err)
			}
		}
	})
	return all
}

func walk(fsys image.FileSystem, r io.ReaderAt, content bool, emit func(path string, s seen)) {
	type place struct {
		path   string
		number uint64
		depth  int
	}
	stack := []place{{"", fsys.Root(), 0}}
	buf := make([]byte, 128<<10) // one for all: the walk is to take little memory itself
	for objects := 0; len(stack) > 0 && objects < maxObjects; objects++ {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		s, dir := look(fsys, r, p.number, content, buf)
		if dir && p.depth < maxDepth {
			var entries []image.Entry
			entries, s.list = fsys.Entries(r, p.number)
			for _, e := range entries {
				stack = append(stack, place{p.path + "/" + e.Name, e.Number, p.depth + 1})
			}
		}
		emit(p.path, s)
	}
}

// look reads one object.
func look(fsys image.FileSystem, r io.ReaderAt, number uint64, content bool, buf []byte) (s seen, dir bool) {
	in, err := fsys.Inode(r, number)
	if err != nil {
		return seen{err: err}, false
	}
	s.text = fmt.Sprintf("%+v", *in)
	xattrs, err := fsys.Xattrs(r, number)
	for _, x := range xattrs {
		s.text += fmt.Sprintf(" %s=%x", x.Name, x.Value)
	}
	s.err = err
	switch in.Type() {
	case image.Symlink:
		target, err := fsys.Readlink(r, number)
		s.text += fmt.Sprintf(" -> %q", target)
		s.err = errors.Join(s.err, err)
	case image.Regular:
		sum, err := digest(fsys, r, number, content, buf)
		s.text += sum
		s.err = errors.Join(s.err, err)
	}
	return s, in.Type() == image.Dir
}

// digest opens a file and reads the beginning of its data.
func digest(fsys image.FileSystem, r io.ReaderAt, number uint64, content bool, buf []byte) (string, error) {
	f, err := fsys.Open(r, number)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	left := int64(maxRead)
	for off := int64(0); off < f.Size() && left > 0 && content; {
		start, err := f.NextData(r, off)
		if err != nil {
			return "", err
		}
		if start < off || start > f.Size() {
			return "", fmt.Errorf("NextData(%d) = %d of %d", off, start, f.Size())
		}
		if start == f.Size() {
			break
		}
		n := min(int64(len(buf)), f.Size()-start, left)
		m, err := f.ReadAt(r, buf[:n], start)
		if int64(m) != n || err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("ReadAt(%d bytes at %d) = %d: %w", n, start, m, err)
		}
		fmt.Fprintf(h, "%d ", start)
		h.Write(buf[:n])
		off, left = start+n, left-n
	}
	return fmt.Sprintf(" %d bytes, %x", f.Size(), slices.Clip(h.Sum(nil)[:12])), nil
}
