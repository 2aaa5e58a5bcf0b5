package maint

import (
	"errors"
	"fmt"
	"math"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// What Begin, Join and Close answer beside a [*ModeError] and a [*RegisterError].
var (
	// ErrClosed is the answer of an Operations after Close.
	ErrClosed = errors.New("operations are closed")
	// ErrActive is Close's answer while operations are active.
	ErrActive = errors.New("operations are active")
	// ErrIdle is Join's answer when no operation is counted.
	ErrIdle = errors.New("no operation is active")
	// ErrUncounted is found in every error that says: this operation could
	// not be counted, so it must not be done.
	ErrUncounted = errors.New("operation cannot be counted")
)

// RegisterError says that an operation could not be registered, and with which
// file that went wrong. errors.Is finds ErrUncounted and the cause in it.
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

// Counts is how many operations are active.
type Counts struct {
	Read  int64 `json:"read"`
	Write int64 `json:"write"`
}

// Total is both together.
func (c Counts) Total() int64 { return added(c.Read, c.Write) }

// and adds up what two processes do.
func (c Counts) and(other Counts) Counts {
	return Counts{Read: added(c.Read, other.Read), Write: added(c.Write, other.Write)}
}

// added adds numbers that are not below zero. What somebody claims may be as large
// as the type allows, and must not come out as nothing.
func added(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (c Counts) of(op cfg.Operation) int64 {
	if op == cfg.Write {
		return c.Write
	}
	return c.Read
}

func (c Counts) plus(op cfg.Operation, n int64) Counts {
	if op == cfg.Write {
		c.Write += n
	} else {
		c.Read += n
	}
	return c
}
