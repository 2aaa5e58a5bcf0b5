package usage

import "fmt"

// Error says what is wrong with the command line.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// New makes a usage error of another error.
func New(err error) error { return &Error{err} }

// Errorf makes a usage error of a text.
func Errorf(format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...)}
}
