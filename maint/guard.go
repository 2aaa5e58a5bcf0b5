package maint

import (
	"sync/atomic"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// Guard is one counted operation. Every owner of a descriptor below a datastore holds a
// Guard: close the descriptor first, then call Release.
//
// A Guard must not be copied after Begin returned it; go vet reports copies.
type Guard struct {
	ops atomic.Pointer[Operations] // nil once released
	op  cfg.Operation              // never changes
}

// Release gives the operation back. It may be called more than once, from any
// goroutine, and on a nil or zero Guard, where it does nothing.
func (g *Guard) Release() {
	if g == nil {
		return
	}
	if ops := g.ops.Swap(nil); ops != nil {
		ops.release(g.op)
	}
}

// Held reports whether the Guard still counts. It is false for nil, for the zero
// Guard and after Release.
func (g *Guard) Held() bool { return g != nil && g.ops.Load() != nil }

// Operation returns the operation that the Guard counts, 0 for nil and the zero Guard.
func (g *Guard) Operation() cfg.Operation {
	if g == nil {
		return 0
	}
	return g.op
}
