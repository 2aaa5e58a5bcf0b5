package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/clusters"
)

const (
	dirMode      = image.Dir | 0o755
	fileMode     = image.Regular | 0o755
	readOnlyMode = image.Regular | 0o555
)

// entry is an entry of a directory.
type entry []byte

func (e entry) dir() bool { return e[attrOff]&attrDir != 0 }

// cluster returns the first cluster.
func (e entry) cluster() uint32 {
	return uint32(binary.LittleEndian.Uint16(e[highOff:]))<<16 | uint32(binary.LittleEndian.Uint16(e[lowOff:]))
}

func (e entry) size() int64 { return int64(binary.LittleEndian.Uint32(e[sizeOff:])) }

// mtime returns when the file was changed, in steps of two seconds. A day or a month that is
// none counts as the first.
func (e entry) mtime() image.Time {
	t, d := binary.LittleEndian.Uint16(e[timeOff:]), binary.LittleEndian.Uint16(e[dateOff:])
	at := time.Date(1980+int(d>>9), time.Month(max(1, d>>5&15)), int(max(1, d&31)), int(t>>11), int(t>>5&63), int(t&31)*2, 0, time.UTC)
	return image.Time{Sec: at.Unix()}
}

// entry returns the entry with a number.
func (f *FS) entry(r io.ReaderAt, number uint64) (entry, error) {
	if number >= uint64(f.size)/entrySize {
		return nil, corrupt.New("inode %d lies behind the end", number)
	}
	e := make(entry, entrySize)
	if err := image.ReadFull(r, e, int64(number)*entrySize); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	if e[0] == 0 || e[0] == deleted || e[attrOff]&attrLabel != 0 {
		return nil, corrupt.At(int64(number)*entrySize, "inode %d is no entry of a directory", number)
	}
	if f.rootLen > 0 { // FAT12 and FAT16 have no upper half
		binary.LittleEndian.PutUint16(e[highOff:], 0)
	}
	return e, nil
}

// Inode returns the attributes of an object. A directory has one link, which says that
// nobody has counted the directories in it.
func (f *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	i := &image.Inode{Number: number, Mode: dirMode}
	if number != rootNumber {
		e, err := f.entry(r, number)
		if err != nil {
			return nil, err
		}
		i.Mtime = e.mtime()
		if !e.dir() {
			i.Mode, i.Nlink, i.Size = fileMode, 1, e.size()
			if e[attrOff]&attrRO != 0 {
				i.Mode = readOnlyMode
			}
			i.Blocks = (i.Size + f.heap.Size - 1) / f.heap.Size * f.heap.Size / 512
			return i, nil
		}
	}
	w, err := f.content(r, number)
	if err = errors.Join(err, w.err); err != nil {
		return nil, err
	}
	i.Size, i.Blocks, i.Nlink = w.size, w.size/512, 1
	return i, nil
}

// Open returns the content of a file.
func (f *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	if number == rootNumber {
		return nil, fmt.Errorf("inode %d is a directory: %w", number, fs.ErrInvalid)
	}
	e, err := f.entry(r, number)
	if err != nil {
		return nil, err
	}
	if e.dir() {
		return nil, fmt.Errorf("inode %d is a directory: %w", number, fs.ErrInvalid)
	}
	size := e.size()
	runs, err := f.table.Chain(r, e.cluster(), (size+f.heap.Size-1)/f.heap.Size, true)
	if err != nil {
		err = fmt.Errorf("inode %d: %w", number, err)
	}
	return clusters.NewContent(f.heap, runs, size, size, err), nil
}

var _ image.FileSystem = (*FS)(nil)
