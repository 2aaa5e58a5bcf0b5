package maint

import (
	"errors"
	"fmt"
)

// What Begin, Join and Close answer beside a [*ModeError] and a [*RegisterError].
var (
	// ErrClosed is the answer of an Operations after Close.
	ErrClosed = errors.New("operations are closed")
	// ErrActive is Close's answer while operations are active.
	ErrActive = errors.New("operations are active")
	// ErrIdle is Join's answer when no operation is counted.
	ErrIdle = errors.New("no operation is active")
	// ErrUncounted is found in every error which says that an operation could not be
	// counted, and so must not be done.
	ErrUncounted = errors.New("operation cannot be counted")
)

// RegisterError says that an operation could not be registered, and names the file that
// was at fault. errors.Is finds ErrUncounted and the cause in it.
type RegisterError struct {
	Store string
	File  string
	Err   error
}

// Error names the datastore and the file.
func (e *RegisterError) Error() string {
	return fmt.Sprintf("register an operation on datastore %s in %s: %v", e.Store, e.File, e.Err)
}

// Unwrap returns the cause.
func (e *RegisterError) Unwrap() error { return e.Err }

// Is matches ErrUncounted.
func (e *RegisterError) Is(target error) bool { return target == ErrUncounted }
