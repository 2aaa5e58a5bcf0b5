package xfs

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// The log is a ring of sectors. A record is a header, which may have several sectors, and
// data. The first number of each sector, or the second one of a header, is the cycle: how
// many times the writer had been here.
const (
	sector        = 512
	recordsAtOnce = 8  // that may be written at one time, in any order
	fewSectors    = 64 // in which the record of an unmount mostly has room
	operationSize = 12
	unmountFlag   = 0x20 // of an operation: the file system was unmounted
)

// ring is the log. Numbers of sectors are within it.
type ring struct {
	fs      *FS
	off     int64
	sectors int64
}

// readLog replays the log, if there is anything in it that may not be in its place. If it
// is damaged, the file system is shown without, and a note says so.
func (f *FS) readLog(r io.ReaderAt) error {
	f.dirty = true
	if f.sb.logStart == 0 {
		f.note("the log is on another device, and what is in it is not shown")
		return nil
	}
	err := f.applyLog(r)
	switch {
	case err == nil:
		f.dirty = false
	case errors.Is(err, corrupt.Err) || errors.Is(err, image.ErrUnsupported):
		f.note("the log was not replayed, and what was changed last is not shown, or not in full: %v", err)
	default:
		return err
	}
	return nil
}

func (f *FS) applyLog(r io.ReaderAt) error {
	off, ok := f.sb.position(f.sb.logStart, f.sb.logBlocks)
	if !ok || f.sb.logBlocks == 0 {
		return corrupt.New("log: no %d blocks at %#x", f.sb.logBlocks, f.sb.logStart)
	}
	l := &ring{f, off, int64(f.sb.logBlocks) * f.sb.blockSize / sector}
	head, last, clean, err := l.end(r)
	if err != nil || clean {
		return err
	}
	if !f.sb.v5 {
		return fmt.Errorf("%w in version 4", image.ErrUnsupported)
	}
	c, err := l.replay(r, last.tail, head)
	if err != nil {
		return err
	}
	sb, err := c.superblock(r)
	if err != nil {
		return err
	}
	f.sb, f.overlay = sb, c.overlay
	if len(c.unfinished) > 0 {
		f.note("%d operations in the log were not finished", len(c.unfinished))
	}
	return nil
}

// end returns the head and the last record, or says that everything is in its place. When
// the record of an unmount is written, all others have been: that takes few sectors to see.
func (l *ring) end(r io.ReaderAt) (head int64, last *record, clean bool, err error) {
	for _, window := range []int64{fewSectors, recordsAtOnce * maxRecord / sector} {
		head, last, err = l.head(r, window)
		switch {
		case err == nil && last == nil:
			return 0, nil, true, nil // nothing was ever written
		case err == nil:
			clean, err = l.isUnmount(r, last)
		}
		if clean || err != nil && !errors.Is(err, corrupt.Err) {
			break
		}
	}
	return head, last, clean, err
}

// superblock returns the superblock as the log has it.
func (c *changes) superblock(r io.ReaderAt) (*superblock, error) {
	if !c.overlay.changed(0, c.fs.sb.sectorSize) {
		return c.fs.sb, nil
	}
	b := make([]byte, superblockSize)
	if err := readFull(r, c.fs.size, b, 0); err != nil {
		return nil, err
	}
	c.overlay.over(b, 0)
	sb, err := decodeSuperblock(b, 0)
	if err != nil {
		return nil, err
	}
	return sb, sb.supported()
}

// read reads n sectors, around the end of the ring if need be.
func (l *ring) read(r io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n*sector)
	first := min(n, l.sectors-at)
	if err := l.fs.read(r, b[:first*sector], l.off+at*sector); err != nil || first == n {
		return b, err
	}
	return b, l.fs.read(r, b[first*sector:], l.off)
}

func cycleOf(b []byte) uint32 {
	if be.Uint32(b) == recordMagic {
		return be.Uint32(b[4:])
	}
	return be.Uint32(b)
}

func (l *ring) cycle(r io.ReaderAt, at int64) (uint32, error) {
	b, err := l.read(r, at, 1)
	if err != nil {
		return 0, err
	}
	return cycleOf(b), nil
}

// head returns the sector behind the last record, and that record; nil if there never was
// one. Up to the head, sectors have the cycle of the first one; from there on, they have
// that of the last one, which is one less, or 0 where nothing was written yet.
// What was being written last may have gaps: the head is at the first one of window sectors.
func (l *ring) head(r io.ReaderAt, window int64) (head int64, last *record, err error) {
	first, err := l.cycle(r, 0)
	if err != nil || first == 0 {
		return 0, nil, err
	}
	old, err := l.cycle(r, l.sectors-1)
	if err != nil {
		return 0, nil, err
	}
	head = l.sectors
	if old != first {
		if head, err = l.firstWith(r, old); err != nil {
			return 0, nil, err
		}
	}
	window = min(l.sectors, window)
	start := head - window
	b, err := l.read(r, (start+l.sectors)%l.sectors, window)
	if err != nil {
		return 0, nil, err
	}
	for i := range window {
		want := first
		if start+i < 0 {
			want = old
		}
		if cycleOf(b[i*sector:]) != want {
			head = start + i
			break
		}
	}
	return l.lastRecord(b[:(head-start)*sector], start)
}

// firstWith returns the first sector of the cycle that the last one has.
func (l *ring) firstWith(r io.ReaderAt, cycle uint32) (int64, error) {
	var err error
	i := sort.Search(int(l.sectors), func(i int) bool {
		if err != nil {
			return true
		}
		var c uint32
		c, err = l.cycle(r, int64(i))
		return c == cycle
	})
	return int64(i), err
}

// lastRecord returns the last whole record in b, which begins at sector start, and the
// sector where it ends. Those behind one that is not whole do not count.
func (l *ring) lastRecord(b []byte, start int64) (head int64, last *record, err error) {
	var whole []*record // the last ones, backwards
	head = int64(len(b)) / sector
	for i := head - 1; i >= 0 && len(whole) < recordsAtOnce; i-- {
		if be.Uint32(b[i*sector:]) != recordMagic {
			continue
		}
		rec, err := l.decode(b[i*sector:], (start+i+l.sectors)%l.sectors)
		if err == nil && i+rec.sectors() == head {
			whole = append(whole, rec)
		} else if len(whole) > 0 {
			break
		}
		head = i
	}
	for i := len(whole) - 1; i >= 0; i-- {
		rec := whole[i]
		if !rec.fits(b[head*sector:][:rec.sectors()*sector]) {
			break
		}
		last, head = rec, head+rec.sectors()
	}
	if last == nil {
		return 0, nil, corrupt.At(l.off, "log: no whole record before sector %d", start+head)
	}
	return (start + head + l.sectors) % l.sectors, last, nil
}

// isUnmount says whether a record says that everything is in its place.
func (l *ring) isUnmount(r io.ReaderAt, rec *record) (bool, error) {
	if rec.ops != 1 {
		return false, nil
	}
	b, err := l.read(r, (rec.at+rec.sheets)%l.sectors, 1)
	if err != nil {
		return false, err
	}
	return b[9]&unmountFlag != 0, nil
}
