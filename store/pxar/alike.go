package pxar

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Part is a directory of a split archive, and where the archive's metadata is read.
type Part struct {
	Archive *Archive
	Source  io.ReaderAt
	Dir     Dir
}

// Alike reports whether two directories of split archives are the same, with everything
// below them and with the files that hard links there lead to. same is asked for the
// contents of each pair of files. Wrong bytes are not alike.
func Alike(ctx context.Context, x, y Part, same func(p, q Payload) (bool, error)) (bool, error) {
	if !x.Archive.split || !y.Archive.split || x.Dir.end-x.Dir.entry != y.Dir.end-y.Dir.entry {
		return false, nil
	}
	c := pairing{ctx: ctx, x: x, y: y, same: same}
	a, b := newWindow(x.Source, x.Dir.end, scanAhead), newWindow(y.Source, y.Dir.end, scanAhead)
	defer a.release()
	defer b.release()
	err := c.scan(a, b, x.Dir.entry, y.Dir.entry, nil)
	if errors.Is(err, errUnlike) || errors.Is(err, corrupt.Err) {
		return false, nil
	}
	return err == nil, err
}

// errUnlike ends a run of Alike that found a difference.
var errUnlike = errors.New("not alike")

// pairing is one run of Alike.
type pairing struct {
	ctx  context.Context
	x, y Part
	same func(p, q Payload) (bool, error)
}

// scan compares the items from i and j on, to the end of a or as long as more says so.
func (c *pairing) scan(a, b *window, i, j int64, more func(header) bool) error {
	var lastA, lastB header
	for n := 0; i < a.limit; n++ {
		if n%1024 == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		h, err := a.header(i)
		if err != nil {
			return err
		}
		k, err := b.header(j)
		if err != nil {
			return err
		}
		if h.typ != k.typ || h.size != k.size {
			return errUnlike
		}
		if more != nil && !more(h) {
			return nil
		}
		if err := c.item(a, b, h, k, lastA, lastB); err != nil {
			return err
		}
		lastA, lastB, i, j = h, k, h.end(), k.end()
	}
	return nil
}

// item compares two items with the same header.
func (c *pairing) item(a, b *window, h, k, lastA, lastB header) error {
	switch h.typ {
	case itemPayloadRef:
		return c.payload(a, b, h, k)
	case itemHardlink:
		return c.link(a, b, h, k, lastA, lastB)
	}
	for off := int64(0); off < h.size; {
		n := int(min(h.size-off, scanAhead))
		p, err := a.bytes(h.pos+off, n)
		if err != nil {
			return err
		}
		q, err := b.bytes(k.pos+off, n)
		if err != nil {
			return err
		}
		if !bytes.Equal(p, q) {
			return errUnlike
		}
		off += int64(n)
	}
	return nil
}

func (c *pairing) payload(a, b *window, h, k header) error {
	p, err := c.x.Archive.readPayload(a, h)
	if err != nil {
		return err
	}
	q, err := c.y.Archive.readPayload(b, k)
	if err != nil {
		return err
	}
	if p.Size != q.Size {
		return errUnlike
	}
	ok, err := c.same(p, q)
	if err == nil && !ok {
		err = errUnlike
	}
	return err
}

// link compares what two hard links lead to: the paths to them, and the files.
func (c *pairing) link(a, b *window, h, k, lastA, lastB header) error {
	if lastA.typ != itemFilename {
		return corrupt.At(h.pos, "hard link without a name")
	}
	p, err := a.bytes(h.pos, int(min(h.size, maxHardlink)))
	if err != nil {
		return err
	}
	q, err := b.bytes(k.pos, int(min(k.size, maxHardlink)))
	if err != nil {
		return err
	}
	if len(p) < minHardlink || !bytes.Equal(p[headerSize+8:], q[headerSize+8:]) {
		return errUnlike
	}
	to, err := c.x.Archive.linkTarget(a, lastA.pos, h)
	if err != nil {
		return err
	}
	other, err := c.y.Archive.linkTarget(b, lastB.pos, k)
	if err != nil {
		return err
	}
	v, w := newWindow(c.x.Source, lastA.pos, entryAhead), newWindow(c.y.Source, lastB.pos, entryAhead)
	defer v.release()
	defer w.release()
	_, i, err := v.filename(to)
	if err != nil {
		return err
	}
	_, j, err := w.filename(other)
	if err != nil {
		return err
	}
	ended := false // with the item that has the content
	return c.scan(v, w, i, j, func(h header) bool {
		if ended || h.typ == itemFilename || h.typ == itemHardlink || h.typ == itemGoodbye {
			return false
		}
		ended = h.typ == itemPayloadRef
		return true
	})
}
