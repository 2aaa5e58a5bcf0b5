package store

import (
	"context"
	"errors"
	"io"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// Folder is a directory of an archive, and the right to read it. Path are the names that
// lead to it from the archive's top.
type Folder struct {
	Right   CanRead
	Archive *Archive
	Dir     pxar.Dir
	Path    []string
}

// Alike reports whether two directories are known to be the same, with everything below
// them and all contents. It reads no content; of split archives it reads the metadata.
// False means that they may differ.
func Alike(ctx context.Context, x, y Folder) (bool, error) {
	a, b := x.Archive, y.Archive
	switch {
	case a.format.Split() != b.format.Split():
		return false, nil
	case !a.format.Split():
		return alikeUnified(ctx, x, y)
	case a.payload == nil || b.payload == nil:
		return false, nil
	case a.meta.file == b.meta.file && a.payload.file == b.payload.file && x.Dir == y.Dir:
		return true, nil
	}
	same := func(p, q pxar.Payload) (bool, error) {
		c, err := a.Claimed(p)
		if err != nil {
			return false, err
		}
		d, err := b.Claimed(q)
		if err != nil {
			return false, err
		}
		return samePieces(ctx, x.Right, y.Right, c, d)
	}
	return pxar.Alike(ctx,
		pxar.Part{Archive: a.format, Source: a.meta.At(ctx, x.Right), Dir: x.Dir},
		pxar.Part{Archive: b.format, Source: b.meta.At(ctx, y.Right), Dir: y.Dir}, same)
}

// alikeUnified is Alike for archives in one stream: their bytes are contents and all.
func alikeUnified(ctx context.Context, x, y Folder) (bool, error) {
	for _, f := range []Folder{x, y} {
		l, err := f.Archive.linkedDirs(ctx, f.Right)
		if err != nil || l.below(joined(f.Path)) {
			return false, err
		}
	}
	begin, end := x.Dir.Range()
	begin2, end2 := y.Dir.Range()
	return samePieces(ctx, x.Right, y.Right,
		Extent{stream: x.Archive.meta, off: begin, size: end - begin}, Extent{stream: y.Archive.meta, off: begin2, size: end2 - begin2})
}

// samePieces reports whether two contents consist of the same parts of the same chunks.
func samePieces(ctx context.Context, right, right2 CanRead, a, b Extent) (bool, error) {
	if a.size != b.size {
		return false, nil
	}
	for off := int64(0); off < a.size; {
		p, err := a.Piece(ctx, right, off)
		if err != nil {
			return false, notCorrupt(err)
		}
		q, err := b.Piece(ctx, right2, off)
		if err != nil {
			return false, notCorrupt(err)
		}
		if !p.Same(q) {
			return false, nil
		}
		off = min(p.End, q.End)
	}
	return true, nil
}

// notCorrupt returns nil for an error about wrong bytes: who looks closer finds them.
func notCorrupt(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
