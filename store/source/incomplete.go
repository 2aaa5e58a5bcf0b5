package source

import (
	"errors"
	"fmt"
)

// ErrIncomplete matches a warning about something that is there, and is not in
// the archive, or without some of what belongs to it.
var ErrIncomplete = errors.New("not stored whole")

// incompleteError is an error that matches [ErrIncomplete] and does not say so:
// its text says what is missing.
type incompleteError struct{ error }

func (e incompleteError) Unwrap() error        { return e.error }
func (e incompleteError) Is(target error) bool { return target == ErrIncomplete }

func incomplete(format string, args ...any) error {
	return incompleteError{fmt.Errorf(format, args...)}
}
