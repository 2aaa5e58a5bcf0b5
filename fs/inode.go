package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// inode is an object that the kernel knows. While it is not in use, it holds only names
// and values.
type inode struct {
	gofs.Inode
	*object
	fsys *filesystem
}

// newInode returns an inode for n, or nil if its numbers equal those of a different
// object in use.
func (f *filesystem) newInode(n *tree.Node) *inode {
	i := &inode{fsys: f}
	if !f.objects.share(i, f.identify(n), n) {
		return nil
	}
	if f.pruner != nil {
		f.pruner.known(f.objects.count())
	}
	return i
}

// Lookup finds a child.
func (i *inode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if len(name) > maxName { // the kernel lets longer ones pass
		return nil, syscall.ENAMETOOLONG
	}
	ctx, answered := patient(ctx)
	defer answered()
	parent := i.node.Load()
	known := i.child(name)
	if known != nil && (parent.Frozen() || known.isFresh()) {
		known.entry(parent, out)
		return known.EmbeddedInode(), 0
	}
	n, err := parent.Remembered(name)
	switch {
	case err == nil:
		return i.attach(ctx, parent, name, n, out)
	case errors.Is(err, iofs.ErrNotExist):
		out.SetEntryTimeout(forever) // see rawFileSystem.Lookup
		return nil, syscall.ENOENT
	}
	err = i.fsys.ref.View(ctx, func(r *store.Reader) (err error) {
		n, err = parent.Lookup(ctx, r, name)
		return err
	})
	if err != nil && known != nil && memoryMayAnswer(err) {
		known.entry(parent, out)
		return known.EmbeddedInode(), 0
	}
	if err != nil {
		return nil, i.fsys.fail(err)
	}
	return i.attach(ctx, parent, name, n, out)
}

// child returns the inode that the kernel knows under that name, nil if there is none.
func (i *inode) child(name string) *inode {
	if c := i.GetChild(name); c != nil {
		known, _ := c.Operations().(*inode)
		return known
	}
	return nil
}

// attach makes n the child called name. If the kernel already has an inode for it,
// go-fuse uses that one, which has the same object.
func (i *inode) attach(ctx context.Context, parent *tree.Node, name string, n *tree.Node, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	child := i.fsys.newInode(n)
	if child == nil {
		return nil, i.fsys.fail(&collision{path: i.Path(nil), name: name})
	}
	child.entry(parent, out)
	return i.NewInode(ctx, child, i.fsys.identify(n)), 0
}

// entry fills out for the inode as a child of parent.
func (i *inode) entry(parent *tree.Node, out *fuse.EntryOut) {
	n := i.node.Load()
	i.fsys.owner.attr(n, &out.Attr)
	out.SetAttrTimeout(timeout(n))
	out.SetEntryTimeout(timeout(parent))
}

// timeout returns how long the kernel may cache the answers about n.
func timeout(n *tree.Node) time.Duration {
	if n.Frozen() {
		return forever
	}
	return shortly
}

// Getattr answers from memory: it neither reads nor counts.
func (i *inode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n := i.node.Load()
	if i.IsRoot() {
		n = i.fsys.tree.Root()
	}
	i.fsys.owner.attr(n, &out.Attr)
	out.SetTimeout(timeout(n))
	return 0
}

// Readlink answers from memory.
func (i *inode) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(i.node.Load().Target()), 0
}

// Access is called only for mounts whose permissions the kernel does not check: private
// ones, whose user may read the chunks anyway. It forbids only to write, and to run a
// file that nobody may execute.
func (i *inode) Access(_ context.Context, mask uint32) syscall.Errno {
	var a fuse.Attr
	i.fsys.owner.attr(i.node.Load(), &a)
	switch {
	case mask&accessWrite != 0:
		return syscall.EROFS
	case mask&accessExec != 0 && a.IsRegular() && a.Mode&0o111 == 0:
		return syscall.EACCES
	}
	return 0
}

const (
	accessWrite = 2
	accessExec  = 1
)

// Statfs returns the figures of the file system that holds the datastore.
func (i *inode) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	st := i.fsys.statfs(ctx)
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize = uint32(st.Bsize), uint32(st.Frsize)
	out.NameLen = maxName
	return 0
}

// mended returns the node of the inode. A node that could not be opened at its last
// lookup is looked up anew: the missing key or chunk may be there by now.
func (i *inode) mended(ctx context.Context, right *store.Reader) *tree.Node {
	n := i.node.Load()
	name, p := i.Parent()
	if n.Broken() == nil || p == nil {
		return n
	}
	parent, ok := p.Operations().(*inode)
	if !ok {
		return n
	}
	again, err := parent.node.Load().Lookup(ctx, right, name)
	if err != nil || again.ID() != n.ID() {
		return n
	}
	i.remember(again)
	return again
}

// Open opens a file for reading.
func (i *inode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0 {
		return nil, 0, syscall.EROFS
	}
	ctx, answered := patient(ctx)
	defer answered()
	h, err := i.fsys.open(ctx, i)
	if err != nil {
		return nil, 0, i.fsys.fail(err)
	}
	known := i.node.Load()
	n := i.mended(ctx, h.right)
	if n.Attr().Size != known.Attr().Size {
		h.release()
		// The kernel has the size of when the content could not be decoded, and would show a
		// file that ends too early: it has to look the path up again.
		return nil, 0, syscall.ESTALE
	}
	file, err := n.Open(ctx, h.right)
	if err != nil {
		h.release()
		return nil, 0, i.fsys.fail(err)
	}
	flags = fuse.FOPEN_NOFLUSH // nothing is written, so close(2) need not ask
	// What is zeros because a chunk is damaged may be there at the next read.
	if _, past := file.(tree.Salvaged); n.Frozen() && !past {
		flags |= fuse.FOPEN_KEEP_CACHE
	} else {
		flags |= fuse.FOPEN_DIRECT_IO
	}
	return &fileHandle{handle: h, file: file}, flags, 0
}

// OpendirHandle opens a directory for listing.
func (i *inode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	ctx, answered := patient(ctx)
	defer answered()
	n := i.node.Load()
	if !n.Counted() {
		return i.opendirAbove(ctx, n)
	}
	h, err := i.fsys.open(ctx, i)
	if err != nil {
		return nil, 0, i.fsys.fail(err)
	}
	n = i.mended(ctx, h.right)
	l, err := n.List(ctx, h.right)
	if err != nil {
		h.release()
		return nil, 0, i.fsys.fail(err)
	}
	flags := uint32(0)
	if n.Frozen() {
		flags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	}
	return &dirHandle{inode: i, node: n, handle: h, listing: l}, flags, 0
}

// opendirAbove opens a directory above the snapshots. It reads the whole listing at
// once, so the handle needs no right afterwards.
func (i *inode) opendirAbove(ctx context.Context, n *tree.Node) (gofs.FileHandle, uint32, syscall.Errno) {
	if i.fsys.isStopping() {
		return nil, 0, i.fsys.fail(errStopping)
	}
	var l tree.Listing
	err := i.fsys.ref.View(ctx, func(r *store.Reader) (err error) {
		l, err = n.List(ctx, r)
		return err
	})
	if err != nil {
		return nil, 0, i.fsys.fail(err)
	}
	return &dirHandle{inode: i, node: n, listing: l}, 0, 0
}

// maxName is the longest possible name in the tree.
const maxName = 255
