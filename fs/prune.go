package fs

import (
	"log/slog"
	"runtime"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
)

// DefaultMaxInodes is how many objects the kernel may know of a mount before it
// is asked to forget some.
const DefaultMaxInodes = 250_000

const (
	// pruneBatch is how many objects the kernel is asked to forget at once.
	pruneBatch = 4096
	// inUse is how long an object is left alone after it was looked up.
	inUse = 2 * time.Second
	// pruneRest is how long nothing is asked for after it was: what the kernel
	// keeps then it needs.
	pruneRest = time.Second
)

// pruner asks the kernel to forget objects when it knows too many: each takes
// memory here, and there is no other way to have it back. What is open, or was
// looked up just now, stays.
//
// It works in a goroutine that no request waits for: the kernel may ask
// something before it has forgotten.
type pruner struct {
	fsys *filesystem
	max  int
	wake chan struct{} // holds one token when there are too many
}

func newPruner(f *filesystem, limit int) *pruner {
	return &pruner{fsys: f, max: limit, wake: make(chan struct{}, 1)}
}

// known is told how many objects there are now.
func (p *pruner) known(n int) {
	if n <= p.max {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run prunes until the mount has ended.
func (p *pruner) run(root *gofs.Inode, ended <-chan struct{}, log *slog.Logger) {
	for {
		select {
		case <-p.wake:
		case <-ended:
			return
		}
		asked, err := p.prune(root, ended)
		// An object goes, and is counted off, when it is collected.
		runtime.GC()
		log.Debug("asked the kernel to forget objects", "objects", asked, "error", err)
		rest := time.NewTimer(pruneRest)
		select {
		case <-rest.C:
		case <-ended:
			rest.Stop()
			return
		}
		p.known(p.fsys.objects.count())
	}
}

// prune asks the kernel to forget what is below n, what lies deepest first: a
// directory is kept for what it has.
func (p *pruner) prune(root *gofs.Inode, ended <-chan struct{}) (asked int, err error) {
	open := p.fsys.openInodes()
	old := int64(time.Since(start) - inUse)
	var batch []*gofs.Inode
	send := func() {
		if len(batch) > 0 && err == nil {
			err = forget(root, batch)
			asked += len(batch)
		}
		batch = batch[:0]
	}
	var walk func(n *gofs.Inode)
	walk = func(n *gofs.Inode) {
		select {
		case <-ended:
			return
		default:
		}
		for _, c := range n.Children() {
			walk(c)
			i, ok := c.Operations().(*inode)
			if !ok || open[i] || i.seen.Load() > old {
				continue
			}
			if batch = append(batch, c); len(batch) == pruneBatch {
				send()
			}
		}
	}
	walk(root)
	send()
	return asked, err
}

// forget asks the kernel to forget objects.
func forget(root *gofs.Inode, nodes []*gofs.Inode) error {
	if errno := root.NotifyPrune(nodes); errno != syscall.ENOSYS {
		return errnoError(errno)
	}
	return forgetFiles(nodes)
}

// forgetFiles is for kernels that know no such request: they are told that names
// of files are no longer what they were. Directories they keep.
func forgetFiles(nodes []*gofs.Inode) error {
	for _, n := range nodes {
		name, parent := n.Parent()
		if n.IsDir() || parent == nil {
			continue
		}
		// ENOENT: it has forgotten already.
		if errno := parent.NotifyEntry(name); errno != 0 && errno != syscall.ENOENT {
			return errno
		}
	}
	return nil
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
