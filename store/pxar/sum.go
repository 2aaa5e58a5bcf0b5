package pxar

import (
	"context"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Range returns the bytes of the archive's own stream that a directory and all below it
// take, from its entry to the end of its table. It is one range, and all that is said of
// places in it is relative, but for the places of contents in a payload stream.
func (d Dir) Range() (begin, end int64) { return d.entry, d.end }

// WriteMetadata writes to w what a split archive says of a directory and all below it,
// apart from its name and from where contents lie. Of a file that a hard link leads to
// it writes size, time, mode and owner as well, because that may stand elsewhere. So equal bytes are
// equal trees, as far as sizes and times tell contents.
func (a *Archive) WriteMetadata(ctx context.Context, r io.ReaderAt, d Dir, w io.Writer) error {
	if !a.split {
		return corrupt.At(d.entry, "metadata and contents are in one stream")
	}
	s := summer{a: a, r: r, out: w}
	in := newWindow(r, d.end, scanAhead)
	defer in.release()
	return s.scan(ctx, in, d.entry)
}

// summer is one run of WriteMetadata.
type summer struct {
	a   *Archive
	r   io.ReaderAt
	out io.Writer
}

// scan writes the items from pos on to the end of the window.
func (s *summer) scan(ctx context.Context, in *window, pos int64) error {
	var last header
	for n := 0; pos < in.limit; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := in.header(pos)
		if err == nil {
			err = s.item(in, h, last)
		}
		if err != nil {
			return err
		}
		last, pos = h, h.end()
	}
	return nil
}

// item writes one item. last is the one before it.
func (s *summer) item(in *window, h, last header) error {
	skip := int64(0)
	switch h.typ {
	case itemPayloadRef: // only how long the content is
		skip = headerSize + 8
	case itemHardlink:
		if last.typ != itemFilename {
			return corrupt.At(h.pos, "hard link without a name")
		}
		return s.link(in, h, last.pos)
	}
	if h.size < skip {
		return corrupt.At(h.pos, "item of %d bytes", h.size)
	}
	for pos := h.pos + skip; pos < h.end(); {
		n := int(min(h.end()-pos, scanAhead))
		b, err := in.bytes(pos, n)
		if err != nil {
			return err
		}
		if _, err := s.out.Write(b); err != nil {
			return err
		}
		pos += int64(n)
	}
	return nil
}

// link writes the item of a hard link, and what it leads to.
func (s *summer) link(in *window, h header, namePos int64) error {
	b, err := in.bytes(h.pos, int(min(h.size, maxHardlink)))
	if err != nil {
		return err
	}
	if _, err := s.out.Write(b[:headerSize]); err != nil {
		return err
	}
	w := newWindow(s.r, namePos, entryAhead)
	defer w.release()
	target, err := s.a.linkTarget(in, namePos, h)
	if err != nil {
		return err
	}
	_, pos, err := w.filename(target)
	if err != nil {
		return err
	}
	for {
		next, err := w.header(pos)
		if err != nil {
			return err
		}
		switch next.typ {
		case itemPayloadRef:
			return s.item(w, next, header{})
		case itemEntry, itemEntryV1:
			if err := s.item(w, next, header{}); err != nil {
				return err
			}
		case itemFilename, itemGoodbye, itemHardlink, itemPayload:
			return corrupt.At(next.pos, "hard link to what is no file")
		}
		pos = next.end()
	}
}
