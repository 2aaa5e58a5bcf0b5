package source

import (
	"errors"
	"fmt"
)

// ErrIncomplete matches a warning about a file that exists and is not in the archive,
// or not with everything that belongs to it.
var ErrIncomplete = errors.New("not stored whole")

// incompleteError is an error that matches [ErrIncomplete]. Its text does not contain
// that of ErrIncomplete, but says what is missing.
type incompleteError struct{ error }

func (e incompleteError) Unwrap() error        { return e.error }
func (e incompleteError) Is(target error) bool { return target == ErrIncomplete }

func incomplete(format string, args ...any) error {
	return incompleteError{fmt.Errorf(format, args...)}
}
