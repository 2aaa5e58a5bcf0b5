package volumes

import (
	"errors"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/image"
)

// Readable reports whether the bytes of the volume can be read, whatever they are.
func (v *Volume) Readable() bool { return v.logical == nil || v.logical.Problem == "" }

// Reader returns the bytes of the volume. The disks are those that [Scan] looked at.
func (v *Volume) Reader(disks []io.ReaderAt) io.ReaderAt {
	if v.logical == nil {
		return io.NewSectionReader(disks[v.disk], v.off, v.Size)
	}
	return logicalReader{v, disks}
}

// logicalReader reads a logical volume.
type logicalReader struct {
	v     *Volume
	disks []io.ReaderAt
}

// ReadAt is that of an io.ReaderAt.
func (r logicalReader) ReadAt(p []byte, off int64) (int, error) {
	return r.v.logical.ReadAt(func(i int) io.ReaderAt { return r.v.members[i].Reader(r.disks) }, p, off)
}

// Open opens the file system of the volume; [image.ErrUnknown] if there is none that a
// decoder can read.
func (v *Volume) Open(disks []io.ReaderAt) (image.FileSystem, error) {
	r := v.Reader(disks)
	for _, open := range decoders {
		fsys, err := open(r, v.Size)
		if !errors.Is(err, image.ErrUnknown) {
			return fsys, err
		}
	}
	return nil, image.ErrUnknown
}

// Sparse are disks that know their holes.
type Sparse interface {
	NextData(disk int, off int64) (int64, error)
	NextHole(disk int, off int64) (int64, error)
}

// NextData returns the first offset at or after off at which data lies, or the size.
func (v *Volume) NextData(disks Sparse, off int64) (int64, error) {
	for off < v.Size {
		disk, at, room := v.where(off)
		data, err := disks.NextData(disk, at)
		if err != nil {
			return 0, err
		}
		if data < at+room {
			return off + data - at, nil
		}
		off += room
	}
	return v.Size, nil
}

// NextHole returns the first offset at or after off at which a hole lies, or the size.
func (v *Volume) NextHole(disks Sparse, off int64) (int64, error) {
	for off < v.Size {
		disk, at, room := v.where(off)
		hole, err := disks.NextHole(disk, at)
		if err != nil {
			return 0, err
		}
		if hole < at+room {
			return off + hole - at, nil
		}
		off += room
	}
	return v.Size, nil
}

// where returns on which disk an offset lies, where there, and how many bytes follow.
func (v *Volume) where(off int64) (disk int, at, room int64) {
	if v.logical == nil {
		return v.disk, v.off + off, v.Size - off
	}
	r := v.logical.Where(off)
	disk, at, _ = v.members[r.Member].where(r.Off)
	return disk, at, r.Size
}

// Measure finds out how much of the volumes that are no file systems is no hole.
func (l *Layout) Measure(disks Sparse) error {
	measured := make(map[*Volume]bool)
	for _, d := range l.Disks {
		all := slices.Clone(d.Parts)
		for _, g := range d.Groups {
			all = append(all, g.Volumes...)
		}
		for _, v := range all {
			if measured[v] || v.Filesystem != "" || !v.Readable() {
				continue
			}
			measured[v] = true
			if err := v.measure(disks); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Volume) measure(disks Sparse) error {
	for off := int64(0); off < v.Size; {
		data, err := v.NextData(disks, off)
		if err != nil {
			return err
		}
		if off, err = v.NextHole(disks, data); err != nil {
			return err
		}
		v.Allocated += off - data
	}
	return nil
}
