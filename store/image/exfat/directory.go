package exfat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

// directory is the names in a directory.
type directory struct{ image.Names }

// runs returns the clusters of an object for size bytes.
func (f *FS) runs(r io.ReaderAt, s *set) ([]clusters.Run, error) {
	if s.size > int64(f.count)*f.heap.Size {
		return nil, corrupt.New("%d bytes are more than there are in all", s.size)
	}
	want := (s.size + f.heap.Size - 1) / f.heap.Size
	if want == 0 {
		return nil, nil
	}
	if !s.contiguous {
		return f.table.Chain(r, s.first, want, true)
	}
	if s.first < clusters.First || want > int64(f.count) || int64(s.first-clusters.First) > int64(f.count)-want {
		return nil, corrupt.New("%d clusters from %d lie behind the end", want, s.first)
	}
	return []clusters.Run{{First: s.first, Count: uint32(want)}}, nil
}

// content returns the bytes of a directory.
func (f *FS) content(r io.ReaderAt, number uint64) (*clusters.Content, error) {
	if number == rootNumber { // its size is that of its chain
		runs, err := f.table.Chain(r, f.root, maxDir/f.heap.Size, false)
		var size int64
		for _, run := range runs {
			size += int64(run.Count) * f.heap.Size
		}
		if err != nil && size == 0 {
			return nil, fmt.Errorf("top directory: %w", err)
		}
		if err != nil {
			size += f.heap.Size // to meet the error
		}
		return clusters.NewContent(f.heap, runs, size, size, err), nil
	}
	s, err := f.set(r, number)
	if err != nil {
		return nil, err
	}
	if !s.dir() {
		return nil, fmt.Errorf("inode %d: not a directory: %w", number, fs.ErrInvalid)
	}
	if s.size > maxDir {
		return nil, corrupt.New("directory %d has %d bytes", number, s.size)
	}
	runs, err := f.runs(r, s)
	if err != nil {
		err = fmt.Errorf("directory %d: %w", number, err)
	}
	return clusters.NewContent(f.heap, runs, s.size, s.size, err), nil
}

// list reads a directory.
func (f *FS) list(r io.ReaderAt, number uint64) (*image.Names, error) {
	c, err := f.content(r, number)
	if err != nil {
		return nil, err
	}
	d := &directory{}
	failed := walk(r, c, func(b []byte, number uint64) error { return d.add(b, number) })
	return &d.Names, failed
}

// pieceSize is how many bytes of a directory are read at once.
const pieceSize = 64 << 10

// walk calls fn for each set of entries of a directory. What is wrong with one does not hide
// the others.
func walk(r io.ReaderAt, c *clusters.Content, fn func(b []byte, number uint64) error) error {
	var failed error
	var pending []byte // a set that goes on in the next piece
	var begin uint64
	missing := 0
	buf := make([]byte, pieceSize)
	for off := int64(0); off < c.Size(); {
		at, room := c.Where(off)
		n := min(int64(len(buf)), c.Size()-off)
		if room > 0 {
			n = min(n, room)
		}
		b := buf[:n]
		if _, err := c.ReadAt(r, b, off); err != nil && !errors.Is(err, io.EOF) {
			failed = errors.Join(failed, fmt.Errorf("directory: %w", err))
			if room == 0 {
				return failed
			}
			pending, missing = nil, 0
			off += n
			continue
		}
		off += n
		for i := 0; i+entrySize <= len(b); i += entrySize {
			e, place := b[i:i+entrySize], at+int64(i)
			if missing > 0 {
				if e[0]&inUse == 0 || e[0]&secondary == 0 {
					failed = errors.Join(failed, corrupt.At(place, "set of directory entries ends too early"))
					pending, missing = nil, 0
				} else {
					pending = append(pending, e...)
					if missing--; missing == 0 {
						failed = errors.Join(failed, fn(pending, begin))
						pending = nil
					}
					continue
				}
			}
			switch {
			case e[0] == 0:
				return failed
			case e[0] == kindFile && (e[1] < minSet || e[1] > maxSet):
				failed = errors.Join(failed, corrupt.At(place, "set of %d directory entries", e[1]))
			case e[0] == kindFile:
				pending, missing, begin = append([]byte(nil), e...), int(e[1]), uint64(place)/entrySize
			case e[0]&inUse != 0 && e[0]&(secondary|benign) == 0 && e[0] != kindBitmap && e[0] != kindUpcase && e[0] != kindLabel:
				failed = errors.Join(failed, corrupt.At(place, "directory entry of the unknown kind %#x", e[0]))
			}
		}
	}
	if missing > 0 {
		failed = errors.Join(failed, corrupt.New("set of directory entries ends too early"))
	}
	return failed
}

// add adds a set of entries.
func (d *directory) add(b []byte, number uint64) error {
	s, err := parseSet(b, int64(number)*entrySize)
	if err != nil {
		return err
	}
	typ := uint32(image.Regular)
	if s.dir() {
		typ = image.Dir
	}
	if err := d.Add(image.Entry{Name: s.name, Number: number, Type: typ}); err != nil {
		return corrupt.At(int64(number)*entrySize, "set of directory entries: %v", err)
	}
	return nil
}

// set returns the set of entries with a number.
func (f *FS) set(r io.ReaderAt, number uint64) (*set, error) {
	if number >= uint64(f.size)/entrySize {
		return nil, corrupt.New("inode %d lies behind the end", number)
	}
	at := int64(number) * entrySize
	b := make([]byte, (maxSet+1)*entrySize)
	b = b[:min(int64(len(b)), f.size-at)]
	if err := image.ReadFull(r, b[:entrySize], at); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	if b[0] != kindFile || b[1] < minSet || b[1] > maxSet {
		return nil, corrupt.At(at, "inode %d is no set of directory entries", number)
	}
	b = b[:min(len(b), (int(b[1])+1)*entrySize)]
	s, err := f.readSet(r, b, at)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	return s, nil
}

// readSet reads a set of entries into b. It may go on in another cluster: in the next one,
// or in the one that the table names. Its directory alone knows which of them, but the
// checksum of the set tells as well.
func (f *FS) readSet(r io.ReaderAt, b []byte, at int64) (*set, error) {
	if at < f.heap.Off {
		return nil, corrupt.At(at, "no directory lies there")
	}
	cluster, within := (at-f.heap.Off)/f.heap.Size, (at-f.heap.Off)%f.heap.Size
	if err := image.ReadFull(r, b, at); err == nil {
		if s, err := parseSet(b, at); err == nil || within+int64(len(b)) <= f.heap.Size {
			return s, err
		}
	} else if within+int64(len(b)) <= f.heap.Size {
		return nil, err
	}
	runs, err := f.table.Chain(r, uint32(cluster)+clusters.First, 2, true)
	if err != nil {
		return nil, err
	}
	c := clusters.NewContent(f.heap, runs, 2*f.heap.Size, 2*f.heap.Size, nil)
	if _, err := c.ReadAt(r, b, within); err != nil {
		return nil, err
	}
	return parseSet(b, at)
}

// readLabel reads the volume label, which is among the first entries of the top directory.
func (f *FS) readLabel(r io.ReaderAt) error {
	c, err := f.content(r, rootNumber)
	if err != nil {
		return err
	}
	b := make([]byte, min(f.heap.Size, pieceSize, c.Size()))
	if _, err := c.ReadAt(r, b, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("top directory: %w", err)
	}
	for i := 0; i+entrySize <= len(b) && b[i] != 0; i += entrySize {
		e := b[i : i+entrySize]
		if n := int(e[1]); e[0] == kindLabel && n <= maxLabel {
			units := make([]uint16, n)
			for k := range units {
				units[k] = binary.LittleEndian.Uint16(e[2+2*k:])
			}
			f.label = image.DecodeUTF16(units)
		}
	}
	return nil
}

// maxLabel is the length of a volume label, in characters.
const maxLabel = 11
