package xfs

import (
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// file is the content of a regular file.
type file struct {
	fork *fork
	size int64
}

// Size returns the size in bytes.
func (f *file) Size() int64 { return f.size }

// piece is a part of a file: bytes at an offset of the image, or zeros.
type piece struct {
	n     int64
	off   int64
	zeros bool
}

// piece returns what lies at off. It is not longer than one extent.
func (f *file) piece(r io.ReaderAt, off int64) (piece, error) {
	s := f.fork.fs.sb
	block, within := uint64(off/s.blockSize), off%s.blockSize
	e, ok, err := f.fork.at(r, block)
	switch {
	case err != nil:
		return piece{}, err
	case !ok:
		return piece{n: f.size - off, zeros: true}, nil
	case e.start > block:
		return piece{n: s.bytes(e.start-block) - within, zeros: true}, nil
	}
	e = e.from(block)
	at, ok := s.position(e.block, e.count)
	if !ok {
		return piece{}, corrupt.New("inode %d: no block %#x", f.fork.owner, e.block)
	}
	return piece{n: s.bytes(e.count) - within, off: at + within, zeros: e.unwritten}, nil
}

// bytes is the size of blocks, or as much as there can be.
func (s *superblock) bytes(blocks uint64) int64 {
	return int64(min(blocks, 1<<63/uint64(s.blockSize)-1)) * s.blockSize
}

// ReadAt reads what lies side by side in one go, also over the border of extents.
func (f *file) ReadAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, corrupt.New("inode %d: read at %d", f.fork.owner, off)
	}
	if off >= f.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > f.size-off
	if short {
		p = p[:f.size-off]
	}
	for done := 0; done < len(p); {
		n, err := f.run(r, p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// run reads from off on what is one piece of the image, or zeros.
func (f *file) run(r io.ReaderAt, p []byte, off int64) (int, error) {
	first, err := f.piece(r, off)
	if err != nil {
		return 0, err
	}
	n := min(first.n, int64(len(p)))
	if first.zeros {
		clear(p[:n])
		return int(n), nil
	}
	for n < int64(len(p)) {
		next, err := f.piece(r, off+n)
		if err != nil || next.zeros || next.off != first.off+n {
			break // the next run will say so
		}
		n += min(next.n, int64(len(p))-n)
	}
	if err := f.fork.fs.read(r, p[:n], first.off); err != nil {
		return 0, err
	}
	return int(n), nil
}

// NextData returns the first offset at or after off that lies in data.
func (f *file) NextData(r io.ReaderAt, off int64) (int64, error) {
	return f.next(r, off, false)
}

// NextHole returns the first offset at or after off that lies in a hole. An extent that was
// never written is one.
func (f *file) NextHole(r io.ReaderAt, off int64) (int64, error) {
	return f.next(r, off, true)
}

func (f *file) next(r io.ReaderAt, off int64, zeros bool) (int64, error) {
	for off = max(off, 0); off < f.size; {
		p, err := f.piece(r, off)
		if err != nil {
			return 0, err
		}
		if p.zeros == zeros {
			return off, nil
		}
		off += min(p.n, f.size-off)
	}
	return f.size, nil
}
