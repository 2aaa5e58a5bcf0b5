package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pbsfs/pbsfs/maint/text"
)

// working shows that a command goes through many entries: how many it has seen, and where
// it is. It is safe for concurrent use.
type working struct {
	*liveLine
	where atomic.Pointer[string]
	seen  atomic.Int64
}

// working begins to show that. The caller must end it.
func (a *app) working() *working {
	w := &working{}
	w.at("")
	w.liveLine = a.liveLine(func(time.Duration) string {
		return fmt.Sprintf("%s: %d entries", *w.where.Load(), w.seen.Load())
	})
	return w
}

// at says where the command is.
func (w *working) at(where string) {
	where = text.Printable(where)
	w.where.Store(&where)
}

// add counts entries.
func (w *working) add(n int) { w.seen.Add(int64(n)) }
