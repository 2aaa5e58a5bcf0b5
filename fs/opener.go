package fs

import (
	"context"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/maint/procfs"
)

// Opener is the thread that opened a handle, as far as the kernel tells. The thread may
// have ended while the handle is open.
type Opener struct {
	// PID is the process of the thread if it could be found, otherwise the thread
	// itself; 0 when unknown.
	PID  int
	Name string
}

const (
	// openerAge is how long a thread is assumed to belong to the same process. It is
	// too short for the kernel to use the thread's number again.
	openerAge = time.Second
	// openersKept bounds the threads that are remembered.
	openersKept = 256
)

// openers remembers for a moment which processes the threads that open files belong to:
// a program that opens a hundred thousand files is looked up in /proc once a second. It
// is safe for concurrent use.
type openers struct {
	mu    sync.Mutex // a leaf lock
	known map[uint32]knownOpener
}

type knownOpener struct {
	Opener
	at time.Time
}

// of returns the sender of the request that ctx belongs to.
func (o *openers) of(ctx context.Context) Opener {
	caller, ok := fuse.FromContext(ctx)
	if !ok || caller.Pid == 0 {
		return Opener{}
	}
	o.mu.Lock()
	k, ok := o.known[caller.Pid]
	o.mu.Unlock()
	if ok && time.Since(k.at) < openerAge {
		return k.Opener
	}
	k = knownOpener{Opener: lookOpener(int(caller.Pid)), at: time.Now()}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= openersKept {
		o.known = make(map[uint32]knownOpener)
	}
	o.known[caller.Pid] = k
	return k.Opener
}

func lookOpener(tid int) Opener {
	if !procfs.OwnNumbers() {
		return Opener{} // in /proc that number may belong to another process
	}
	if p, ok := procfs.LookProcess(procfs.ProcessOf(tid)); ok {
		return Opener{PID: p.PID, Name: p.Name}
	}
	return Opener{PID: tid}
}
