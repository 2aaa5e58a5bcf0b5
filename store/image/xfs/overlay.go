package xfs

import (
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	overlayPage = 4096
)

// page is a piece of the image with what the log has changed in it.
type page struct {
	b       *[overlayPage]byte
	changed uint8 // sectors, as bits
}

// budget is how many bytes a replay may still take: for the overlay, and for transactions
// that it has not yet applied.
type budget int

func (b *budget) take(n int) error {
	if *b -= budget(n); *b < 0 {
		return corrupt.New("log: more changes than are replayed")
	}
	return nil
}

func (b *budget) give(n int) { *b += budget(n) }

// overlay is what the log has changed: it lies over the image. Nothing changes it once the
// file system is open.
type overlay map[int64]*page

// over copies what was changed over bytes that were read at off.
func (o overlay) over(p []byte, off int64) {
	if len(o) == 0 {
		return
	}
	for at := off &^ (overlayPage - 1); at < off+int64(len(p)); at += overlayPage {
		pg := o[at]
		if pg == nil {
			continue
		}
		if at < off {
			copy(p, pg.b[off-at:])
		} else {
			copy(p[at-off:], pg.b[:])
		}
	}
}

// changed says whether the log has changed any sector of a range. Checksums are not in the
// log: those there are old.
func (o overlay) changed(off, n int64) bool {
	if len(o) == 0 {
		return false
	}
	for at := off &^ (sector - 1); at < off+n; at += sector {
		if pg := o[at&^(overlayPage-1)]; pg != nil && pg.changed>>(at%overlayPage/sector)&1 != 0 {
			return true
		}
	}
	return false
}

// put changes bytes at off.
func (o overlay) put(r io.ReaderAt, left *budget, size int64, b []byte, off int64) error {
	if off < 0 || off > size || int64(len(b)) > size-off {
		return corrupt.At(off, "log: it changes %d bytes where the image has %d", len(b), size)
	}
	for len(b) > 0 {
		at := off &^ (overlayPage - 1)
		pg := o[at]
		if pg == nil {
			if err := left.take(overlayPage + regionCost); err != nil {
				return err
			}
			pg = &page{b: new([overlayPage]byte)}
			if err := readFull(r, size, pg.b[:min(overlayPage, size-at)], at); err != nil {
				return err
			}
			o[at] = pg
		}
		n := copy(pg.b[off-at:], b)
		for s := (off - at) / sector; s <= (off-at+int64(n)-1)/sector; s++ {
			pg.changed |= 1 << s
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
