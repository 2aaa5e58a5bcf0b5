package fat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

// The fields of an entry.
const (
	attrOff   = 11
	caseOff   = 12
	highOff   = 20
	timeOff   = 22
	dateOff   = 24
	lowOff    = 26
	sizeOff   = 28
	attrRO    = 0x01
	attrLabel = 0x08
	attrDir   = 0x10
	attrLong  = 0x0f
	attrMask  = 0x3f
	deleted   = 0xe5
)

// directory is the names in a directory.
type directory struct{ image.Names }

// content returns the bytes of a directory.
func (f *FS) content(r io.ReaderAt, number uint64) (where, error) {
	first := f.root
	if number == rootNumber && f.rootLen > 0 {
		return where{off: f.rootOff, size: f.rootLen}, nil
	}
	if number != rootNumber {
		e, err := f.entry(r, number)
		if err != nil {
			return where{}, err
		}
		if !e.dir() {
			return where{}, fmt.Errorf("inode %d: not a directory: %w", number, fs.ErrInvalid)
		}
		first = e.cluster()
	}
	// The size of a directory is that of its chain, and the format bounds it.
	runs, err := f.table.Chain(r, first, maxDir/min(f.heap.Size, maxDir), false)
	if err != nil {
		err = fmt.Errorf("directory %d: %w", number, err)
	}
	var size int64
	for _, run := range runs {
		size += int64(run.Count) * f.heap.Size
	}
	return where{chain: clusters.NewContent(f.heap, runs, size, size, nil), size: size, err: err}, nil
}

// where is the bytes of a directory: a chain, or a range of the disk. err says why they end
// too early.
type where struct {
	chain *clusters.Content
	off   int64
	size  int64
	err   error
}

// readAt reads from the directory; at is the place on the disk.
func (w where) readAt(r io.ReaderAt, p []byte, off int64) (at int64, err error) {
	if w.chain == nil {
		return w.off + off, image.ReadFull(r, p, w.off+off)
	}
	at, _ = w.chain.Where(off)
	_, err = w.chain.ReadAt(r, p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return at, err
}

// list reads a directory.
func (f *FS) list(r io.ReaderAt, number uint64) (*image.Names, error) {
	w, err := f.content(r, number)
	if err != nil {
		return nil, err
	}
	d := &directory{}
	failed := d.read(r, w, f.heap.Size)
	return &d.Names, failed
}

// read reads all entries. Pieces of the directory lie side by side at least for the size of
// a cluster, so they are read in such pieces.
func (d *directory) read(r io.ReaderAt, w where, step int64) error {
	var failed error
	var long longName
	buf := make([]byte, min(step, w.size))
	for off := int64(0); off < w.size; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), w.size-off)]
		at, err := w.readAt(r, b, off)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("directory: %w", err))
			long = longName{torn: true}
			continue // the next cluster can be read, perhaps
		}
		for i := 0; i+entrySize <= len(b); i += entrySize {
			e := entry(b[i : i+entrySize])
			if e[0] == 0 { // nothing follows
				return failed // so it does not matter whether its chain goes on
			}
			if err := d.add(e, uint64(at+int64(i))/entrySize, &long); err != nil {
				failed = errors.Join(failed, corrupt.At(at+int64(i), "directory entry: %v", err))
			}
		}
	}
	return errors.Join(failed, w.err)
}

// add adds an entry, or remembers a part of a long name.
func (d *directory) add(e entry, number uint64, long *longName) error {
	switch {
	case e[0] == deleted:
		*long = longName{}
		return nil
	case e[attrOff]&attrMask == attrLong:
		long.add(e)
		return nil
	case e[attrOff]&attrLabel != 0:
		*long = longName{}
		return nil
	}
	name, ok := long.complete(e)
	torn := long.torn
	*long = longName{}
	if torn { // its long name may be where nothing could be read
		return nil
	}
	if !ok {
		name = e.shortName()
	}
	if name == "." || name == ".." {
		return nil
	}
	typ := uint32(image.Regular)
	if e.dir() {
		typ = image.Dir
	}
	return d.Add(image.Entry{Name: name, Number: number, Type: typ})
}

// volumeLabel returns the label in the top directory, which counts more than that in the
// boot sector.
func (f *FS) volumeLabel(r io.ReaderAt) (string, error) {
	w, err := f.content(r, rootNumber)
	if err != nil || w.size == 0 {
		return "", errors.Join(err, w.err)
	}
	b := make([]byte, min(f.heap.Size, w.size))
	if _, err := w.readAt(r, b, 0); err != nil {
		return "", fmt.Errorf("top directory: %w", err)
	}
	for i := 0; i+entrySize <= len(b) && b[i] != 0; i += entrySize {
		e := entry(b[i : i+entrySize])
		if e[0] != deleted && e[attrOff]&attrMask != attrLong && e[attrOff]&(attrLabel|attrDir) == attrLabel {
			return trimSpace(decode437(e[:11])), nil
		}
	}
	return "", nil
}
