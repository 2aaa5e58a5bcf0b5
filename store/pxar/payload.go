package pxar

import (
	"io"
	"math"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Payload is where the content of a regular file is.
type Payload struct {
	// Off is the position of the first byte of content in the archive's own
	// stream; with Ref, that of the PAYLOAD header in the payload stream.
	Off  int64
	Size int64
	Ref  bool
}

// PayloadHeader is the length of the header in front of a content in a payload stream.
const PayloadHeader = headerSize

// readPayload reads the PAYLOAD or PAYLOAD_REF item that ends a file's entry.
func (a *Archive) readPayload(w *window, h header) (Payload, error) {
	if h.typ == itemPayload {
		return Payload{Off: h.content(), Size: h.contentLen()}, nil
	}
	if !a.split {
		return Payload{}, corrupt.At(h.pos, "reference to a payload stream in an archive that has none")
	}
	b, err := w.content(h, 16)
	if err != nil {
		return Payload{}, err
	}
	off, okOff := offset(le64(b))
	size, okSize := offset(le64(b[8:]))
	if !okOff || !okSize || size > math.MaxInt64-headerSize-off {
		return Payload{}, corrupt.At(h.pos, "reference to %d bytes at %d of the payload stream", le64(b[8:]), le64(b))
	}
	return Payload{Off: off, Size: size, Ref: true}, nil
}

// Claim returns where the content's first byte must be for [Payload.Resolve] to find
// nothing wrong.
func (p Payload) Claim() int64 {
	if p.Ref {
		return p.Off + headerSize
	}
	return p.Off
}

// CheckPayloadStream checks that a stream of that size is the payload half of a
// split archive. Once per stream is enough.
func CheckPayloadStream(r io.ReaderAt, size int64) error {
	w := newWindow(r, size, headerSize)
	defer w.release()
	h, err := w.header(0)
	if err != nil {
		return err
	}
	if h.typ != itemPayloadStart || h.size != headerSize {
		return corrupt.At(0, "payload stream does not begin with its marker")
	}
	return nil
}

// Resolve returns the position of the content's first byte. With Ref, r is the
// payload stream, of that size, and what is referenced is checked; without, r
// is not used.
func (p Payload) Resolve(r io.ReaderAt, size int64) (off int64, err error) {
	if !p.Ref {
		return p.Off, nil
	}
	w := newWindow(r, size, headerSize)
	defer w.release()
	h, err := w.header(p.Off)
	if err != nil {
		return 0, err
	}
	if h.typ != itemPayload || h.contentLen() != p.Size {
		return 0, corrupt.At(p.Off, "item of type %#016x with %d bytes in the payload stream, want a payload of %d", h.typ, h.contentLen(), p.Size)
	}
	return h.content(), nil
}
