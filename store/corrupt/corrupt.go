// Package corrupt is how every decoder says that bytes of a datastore are
// wrong.
//
// Whoever finds wrong bytes (a chunk whose digest does not fit, an index with
// decreasing offsets, an archive item that leaves its archive) returns an
// error that matches [Err] under [errors.Is], so that one test at the top
// decides what a user is told. Such an error says what is wrong and where; the
// callers above add which datastore, snapshot and archive it belongs to.
package corrupt

import (
	"errors"
	"fmt"
)

// Err matches every error that reports wrong bytes.
var Err = errors.New("corrupt data")

// Error is wrong bytes at an offset of the stream that was being decoded.
type Error struct {
	// Off is the byte offset, in the stream the decoder was given, of the
	// item that is wrong; -1 where no single place is.
	Off int64
	// Reason says what is wrong, without the offset.
	Reason string
}

// Error returns the reason and, where there is one, the offset.
func (e *Error) Error() string {
	if e.Off < 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s at offset %d", e.Reason, e.Off)
}

// Is makes errors.Is(e, Err) true.
func (e *Error) Is(target error) bool { return target == Err }

// At returns an [*Error] for the item at off; the reason is formatted as by
// [fmt.Sprintf].
func At(off int64, format string, args ...any) error {
	return &Error{Off: off, Reason: fmt.Sprintf(format, args...)}
}

// New returns an [*Error] that has no single place.
func New(format string, args ...any) error {
	return &Error{Off: -1, Reason: fmt.Sprintf(format, args...)}
}
