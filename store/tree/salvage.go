package tree

import (
	"context"
	"fmt"
	"strings"

	"github.com/pbsfs/pbsfs/store"
)

// Salvaged is a content in which there are zeros where chunks are damaged. The files of
// archives and the disk images of a datastore that was opened to salvage are opened as one;
// nothing else is.
type Salvaged interface {
	File
	// ReadPast is ReadAt, and returns what of the content is lost, as far as the read has
	// come to it.
	ReadPast(ctx context.Context, right store.CanRead, p []byte, off int64) (int, []store.Lost, error)
	// Lost returns what reads have come to so far.
	Lost() []store.Range
	// Damaged reads everything, and returns what is lost. Known returns what is known of
	// that without reading any chunk.
	Damaged(ctx context.Context, right store.CanRead) ([]store.Range, error)
	Known(ctx context.Context, right store.CanRead) ([]store.Range, error)
}

var (
	_ Salvaged = (*store.Salvaged)(nil)
	_ Salvaged = (*store.SalvagedImage)(nil)
	_ Sparse   = (*store.SalvagedImage)(nil)
)

// DamagedName is the extended attribute that says which ranges of a file are zeros because
// chunks are damaged. Its value is that of [RangesText].
const DamagedName = "user.pbs.damaged"

// Salvage opens a file whose damaged chunks are zeros. It is nil without an error for every
// other node.
func (n *Node) Salvage(ctx context.Context, right store.CanRead) (Salvaged, error) {
	switch b := n.body.(type) {
	case *payload:
		if !b.c.a.Snapshot().Salvages() {
			return nil, nil
		}
	case *streamFile:
		if !b.s.Snapshot().Salvages() {
			return nil, nil
		}
	default:
		return nil, nil
	}
	f, err := n.Open(ctx, right)
	if err != nil {
		return nil, err
	}
	s, _ := f.(Salvaged)
	return s, nil
}

// RangesText shows ranges by the offsets of their first and last bytes, as
// "0-4095,131072-196607". If that were longer than max bytes, it ends with "...".
func RangesText(ranges []store.Range, max int) string {
	const more = ",..."
	var b strings.Builder
	for i, r := range ranges {
		text := fmt.Sprintf("%d-%d", r.Off, r.End-1)
		if i > 0 {
			text = "," + text
		}
		if b.Len()+len(text)+len(more) > max {
			b.WriteString(more)
			break
		}
		b.WriteString(text)
	}
	return b.String()
}
