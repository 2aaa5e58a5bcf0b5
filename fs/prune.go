package fs

import (
	"log/slog"
	"runtime"
	"slices"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
)

// DefaultMaxInodes is about how many objects of a mount the kernel may know: see
// [Options].
const DefaultMaxInodes = 250_000

const (
	// pruneBatch is how many objects the kernel is asked to forget at once.
	pruneBatch = 4096
	// After each request there is a pause, at least minPause, and at least
	// pauseFactor times as long as the request took.
	minPause    = 100 * time.Millisecond
	pauseFactor = 2
	// retryPause is the pause after the kernel has kept all objects that it was asked
	// to forget, because they are in use.
	retryPause = time.Second
	// maxFutile is how many requests in a row may fail to reduce the number of objects.
	maxFutile = 3
)

// pruner asks the kernel to forget objects when it knows too many. Each object takes
// memory in this process, and there is no other way to free it. Open objects stay, and
// of the others those that were looked up last.
//
// The pruner works in a goroutine of its own, for which no request waits, because the
// kernel may send requests before it has forgotten the objects.
type pruner struct {
	fsys *filesystem
	// above is the number of objects at which the pruner begins. It is less than the
	// limit, because new objects come while the pruner works.
	above int
	// keep is how many objects the pruner leaves alone: half of above.
	keep int
	wake chan struct{} // holds one token when there are too many
}

func newPruner(f *filesystem, limit int) *pruner {
	above := limit - limit/4
	return &pruner{fsys: f, above: above, keep: above / 2, wake: make(chan struct{}, 1)}
}

// known is told how many objects there are now.
func (p *pruner) known(n int) {
	if n <= p.above {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run prunes until the mount has ended.
func (p *pruner) run(root *gofs.Inode, ended <-chan struct{}, log *slog.Logger) {
	vain, last := 0, 0
	for {
		select {
		case <-p.wake:
		case <-ended:
			return
		}
		began := time.Now()
		asked, err := p.prune(root, ended)
		// An object is freed, and no longer counted, when it is collected.
		runtime.GC()
		log.Debug("asked the kernel to forget objects", "objects", asked, "error", err)
		pause := max(minPause, pauseFactor*time.Since(began))
		if p.fsys.objects.count() > p.above {
			pause = max(pause, retryPause)
		}
		rest := time.NewTimer(pause)
		select {
		case <-rest.C:
		case <-ended:
			rest.Stop()
			return
		}
		n := p.fsys.objects.count()
		if vain++; n < last {
			vain = 0
		}
		last = n
		if vain < maxFutile { // otherwise the next try comes with one more object
			p.known(n)
		}
	}
}

// prune asks the kernel to forget the objects that were looked up longest ago. The
// deepest come first: the kernel keeps a directory as long as it knows something in it.
func (p *pruner) prune(root *gofs.Inode, ended <-chan struct{}) (asked int, err error) {
	all := appendKnown(nil, root)
	old := p.newest(all)
	open := p.fsys.openInodes()
	all = slices.DeleteFunc(all, func(i *inode) bool { return open[i] || i.seen.Load() > old })
	for batch := range slices.Chunk(all, pruneBatch) {
		select {
		case <-ended:
			return asked, nil
		default:
		}
		if err := forget(root, batch); err != nil {
			return asked, err
		}
		asked += len(batch)
	}
	return asked, nil
}

// appendKnown appends the inodes below n, each directory after its contents.
func appendKnown(all []*inode, n *gofs.Inode) []*inode {
	for _, c := range n.Children() {
		if c.IsDir() {
			all = appendKnown(all, c)
		}
		if i, ok := c.Operations().(*inode); ok {
			all = append(all, i)
		}
	}
	return all
}

// newest returns the time of the newest lookup among the objects that are not to be
// kept, -1 if there are none.
func (p *pruner) newest(all []*inode) int64 {
	seen := make([]int64, len(all))
	for k, i := range all {
		seen[k] = i.seen.Load()
	}
	slices.Sort(seen)
	if n := len(seen) - p.keep; n > 0 {
		return seen[n-1]
	}
	return -1
}

// forget asks the kernel to forget objects.
func forget(root *gofs.Inode, batch []*inode) error {
	nodes := make([]*gofs.Inode, len(batch))
	for k, i := range batch {
		nodes[k] = i.EmbeddedInode()
	}
	if errno := root.NotifyPrune(nodes); errno != syscall.ENOSYS {
		return errnoError(errno)
	}
	return forgetFiles(nodes)
}

// forgetFiles is for kernels without that request. It tells them that the names of
// files have changed. Such kernels keep directories.
func forgetFiles(nodes []*gofs.Inode) error {
	for _, n := range nodes {
		name, parent := n.Parent()
		if n.IsDir() || parent == nil {
			continue
		}
		// ENOENT means that the kernel has forgotten the name already.
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
