package compare

import (
	"bytes"
	"context"
	"errors"

	udiff "github.com/aymanbagabas/go-udiff"
)

// maxText is the largest file, in bytes, whose lines are compared.
const maxText = 8 << 20

// looked is how far into a file is looked for what no text has.
const looked = 8000

// ErrBinary and ErrTooLarge say why there are no lines to compare.
var (
	ErrBinary   = errors.New("binary files differ")
	ErrTooLarge = errors.New("files differ, and are too large to compare their lines")
)

// Unified returns the lines in which two files differ, as diff -u does. Either side may
// have no node: its file is then empty, and is called /dev/null.
func Unified(ctx context.Context, a, b Side, old, is string) (string, error) {
	p, err := whole(ctx, a)
	if err != nil {
		return "", err
	}
	q, err := whole(ctx, b)
	if err != nil {
		return "", err
	}
	if a.Node == nil {
		old = "/dev/null"
	}
	if b.Node == nil {
		is = "/dev/null"
	}
	return udiff.Unified(old, is, string(p), string(q)), nil
}

// whole returns the content of a text.
func whole(ctx context.Context, s Side) ([]byte, error) {
	if s.Node == nil || s.Node.Attr().Size == 0 {
		return nil, nil
	}
	if s.Node.Attr().Size > maxText {
		return nil, ErrTooLarge
	}
	f, err := s.Node.Open(ctx, s.Right)
	if err != nil {
		return nil, err
	}
	text := make([]byte, s.Node.Attr().Size)
	if err := readFull(ctx, s.Right, f, text, 0); err != nil {
		return nil, err
	}
	if bytes.IndexByte(text[:min(len(text), looked)], 0) >= 0 {
		return nil, ErrBinary
	}
	return text, nil
}
