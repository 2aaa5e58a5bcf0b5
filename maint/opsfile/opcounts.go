package opsfile

import (
	"math"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// Counts are numbers of active operations.
type Counts struct {
	Read  int64 `json:"read"`
	Write int64 `json:"write"`
}

// Total returns the number of operations of both kinds.
func (c Counts) Total() int64 { return added(c.Read, c.Write) }

// And adds up the operations of two processes.
func (c Counts) And(other Counts) Counts {
	return Counts{Read: added(c.Read, other.Read), Write: added(c.Write, other.Write)}
}

// added adds numbers that are not negative. A process may claim numbers as large as the
// type allows; their sum must not overflow.
func added(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Of returns the count of one kind.
func (c Counts) Of(op cfg.Operation) int64 {
	if op == cfg.Write {
		return c.Write
	}
	return c.Read
}

// Plus returns the counts with n more of one kind.
func (c Counts) Plus(op cfg.Operation, n int64) Counts {
	if op == cfg.Write {
		c.Write += n
	} else {
		c.Read += n
	}
	return c
}

// Max returns the larger count of each kind.
func (c Counts) Max(o Counts) Counts {
	return Counts{Read: max(c.Read, o.Read), Write: max(c.Write, o.Write)}
}
