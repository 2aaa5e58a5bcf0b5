package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/internal/lru"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// ID identifies an object of the tree.
type ID [sha256.Size]byte

// child returns the ID of the object called name below id. salt tells this state of the
// name from others, if there can be others.
func (id ID) child(name string, salt []byte) ID {
	var room [128]byte // most names fit, and then nothing is allocated
	b := append(append(room[:0], id[:]...), name...)
	if len(salt) > 0 {
		b = append(append(b, 0), salt...)
	}
	return sha256.Sum256(b)
}

// Attribute is an extended attribute.
type Attribute = pxar.Attribute

// Time is an instant, to the nanosecond, from any year that archives can have.
type Time = pxar.Timestamp

// Attr are the attributes of a node.
type Attr struct {
	Mode  uint32 // st_mode: type and permissions
	Nlink uint32
	UID   uint32
	GID   uint32
	Rdev  uint32 // in the form of the kernel's FUSE interface
	// Flags are the file flags in the form in which archives store them
	// ([pxar.LinuxAttr], [pxar.FATAttr]); those above the 32nd bit mean nothing.
	Flags uint32
	// Project is the ID of the quota project, 0 if none is stored.
	Project uint32
	Size    int64
	// Blocks is the size of the content on disk, in units of 512 bytes.
	Blocks int64
	Mtime  Time
}

// Node is one object of the tree. It is immutable.
type Node struct {
	id     ID
	attr   Attr
	frozen bool
	target string
	xattrs xattrs
	body   body
}

// body is the behaviour of a node besides its description: a [directory], a [file], or
// neither.
type body any

// directory is the body of nodes that have children.
type directory interface {
	lookup(ctx context.Context, right store.CanRead, n *Node, name string) (*Node, error)
	list(ctx context.Context, right store.CanRead, n *Node) (Listing, error)
}

// file is the body of nodes that have content.
type file interface {
	open(ctx context.Context, right store.CanRead) (File, error)
}

// ID returns the node's identity.
func (n *Node) ID() ID { return n.id }

// Attr returns the node's attributes.
func (n *Node) Attr() Attr { return n.attr }

// BackedUp reports whether owner, mode, time and attributes of the node are those of the
// object that was backed up: it lies in an archive, or in a file system on a disk. What
// is above describes the backup.
func (n *Node) BackedUp() bool {
	switch n.body.(type) {
	case *folder, *payload, *insideDir, *insideFile:
		return true
	case nil: // links, devices and the like; the link "latest" is not frozen
		return n.frozen
	}
	return false
}

// Frozen reports whether the node, and all below it, will never change.
func (n *Node) Frozen() bool { return n.frozen }

// Target returns the target of a symbolic link, as stored.
func (n *Node) Target() string { return n.target }

// Type returns the S_IFMT bits of the node.
func (n *Node) Type() uint32 { return n.attr.Mode & unix.S_IFMT }

// IsDir reports whether the node is a directory.
func (n *Node) IsDir() bool { return n.Type() == unix.S_IFDIR }

// Counted reports whether an open directory handle of the node counts as an operation:
// handles inside a snapshot do.
func (n *Node) Counted() bool {
	_, above := n.body.(aboveSnapshots)
	return !above
}

// aboveSnapshots is the body of directories above the snapshots.
type aboveSnapshots interface{ aboveSnapshots() }

// inSnapshot is the body of nodes whose content lies in a snapshot.
type inSnapshot interface{ snapshot() name.Snapshot }

// Snapshot returns the snapshot in which the node's content lies, and whether there is
// one. A caller that keeps the node open locks that snapshot.
func (n *Node) Snapshot() (name.Snapshot, bool) {
	b, ok := n.body.(inSnapshot)
	if !ok {
		return name.Snapshot{}, false
	}
	return b.snapshot(), true
}

// Lookup returns the child called name; [fs.ErrNotExist] if there is none.
func (n *Node) Lookup(ctx context.Context, right store.CanRead, name string) (*Node, error) {
	d, ok := n.body.(directory)
	if !ok {
		return nil, unix.ENOTDIR
	}
	return d.lookup(ctx, right, n, name)
}

// Remembered is Lookup for which nothing is read and no right is needed. Its error matches
// [store.ErrNotInMemory] unless the directory lies in an archive, and all of the answer is
// in memory. That it is [fs.ErrNotExist] will then always be so.
func (n *Node) Remembered(name string) (*Node, error) {
	d, ok := n.body.(*folder)
	if !ok {
		return nil, store.ErrNotInMemory
	}
	return d.remembered(n, name)
}

// List returns the children. The Listing must be used with a right that is held at that
// time; it need not be this one.
func (n *Node) List(ctx context.Context, right store.CanRead) (Listing, error) {
	d, ok := n.body.(directory)
	if !ok {
		return nil, unix.ENOTDIR
	}
	return d.list(ctx, right, n)
}

// Open returns the content of a file.
func (n *Node) Open(ctx context.Context, right store.CanRead) (File, error) {
	f, ok := n.body.(file)
	switch {
	case ok:
		return f.open(ctx, right)
	case n.IsDir():
		return nil, unix.EISDIR
	}
	return nil, fmt.Errorf("open: %w", fs.ErrInvalid)
}

// broken is a node that exists but cannot be entered or opened.
type broken struct{ err error }

func (b *broken) lookup(context.Context, store.CanRead, *Node, string) (*Node, error) {
	return nil, b.err
}
func (b *broken) list(context.Context, store.CanRead, *Node) (Listing, error) { return nil, b.err }
func (b *broken) open(context.Context, store.CanRead) (File, error)           { return nil, b.err }

// Broken returns why the node cannot be entered or opened, nil if it can.
func (n *Node) Broken() error {
	if b, ok := n.body.(*broken); ok {
		return b.err
	}
	return nil
}

// ofSnapshot reports whether err concerns one snapshot, and not the whole datastore or
// this request. The nodes of the snapshot then show the error.
func ofSnapshot(err error) bool {
	var own *store.Error
	return errors.As(err, &own)
}

// Tree is the tree of one datastore. It holds no right to read and is safe for
// concurrent use.
type Tree struct {
	ref *store.Lookup
	// items caches the nodes of files of snapshots. To get the attributes of such a
	// file, the file must be read.
	items *lru.Cache[itemKey, *Node]
	// machines are the disks of snapshots, and systems the file systems in them.
	machines *lru.Cache[*store.Snapshot, *machine]
	systems  *lru.Cache[ID, image.FileSystem]
}

const (
	// itemBytes, machineCount and systemCount bound the memories of a Tree. A file system
	// remembers some MiB.
	itemBytes    = 32 << 20
	machineCount = 64
	systemCount  = 8
)

// New returns the tree of a datastore.
func New(ref *store.Lookup) *Tree {
	return &Tree{
		ref: ref, items: lru.New[itemKey, *Node](itemBytes),
		machines: lru.New[*store.Snapshot, *machine](machineCount), systems: lru.New[ID, image.FileSystem](systemCount),
	}
}

// Root returns the top of the tree, as it was last seen. It does no I/O.
func (t *Tree) Root() *Node {
	n := &Node{
		id:   ID(sha256.Sum256([]byte("pbsfs tree"))),
		attr: dirAttr(t.ref.Base()),
		body: &namespace{t: t},
	}
	if t.ref.Untracked() {
		n.xattrs.small = append(n.xattrs.small, Attribute{Name: "user.pbs.untracked", Value: []byte("yes")})
	}
	if t.ref.Salvage() {
		n.xattrs.small = append(n.xattrs.small, Attribute{Name: "user.pbs.salvage", Value: []byte("yes")})
	}
	return n
}

// dirMode is the mode of directories above the archives. All users may pass, as on the
// server's own disk, so the permissions in an archive decide.
const dirMode = unix.S_IFDIR | 0o555

// dirAttr makes the attributes of a directory of the datastore. One link means
// "unknown" for a directory, which keeps find(1) from relying on the number.
func dirAttr(a store.Attr) Attr {
	return Attr{Mode: dirMode, Nlink: 1, UID: a.UID, GID: a.GID, Mtime: stampOf(a)}
}

func stampOf(a store.Attr) Time {
	if a.Mtime.IsZero() {
		return Time{}
	}
	return Time{Sec: a.Mtime.Unix(), Nsec: uint32(a.Mtime.Nanosecond())}
}

// maxSymlinks is how many symbolic links Walk follows.
const maxSymlinks = 40

// Walk returns the node at path, in the form in which a user types it below the mount
// point. Symbolic links on the way are followed as long as they stay inside the tree.
// The last one is followed with follow, or if a slash comes after it. A name before a
// slash must be that of a directory.
func (t *Tree) Walk(ctx context.Context, right store.CanRead, path string, follow bool) (*Node, error) {
	slash := strings.HasSuffix(path, "/")
	n, err := t.walk(ctx, right, path, follow || slash)
	if err == nil && slash && !n.IsDir() {
		return nil, unix.ENOTDIR
	}
	return n, err
}

func (t *Tree) walk(ctx context.Context, right store.CanRead, path string, follow bool) (*Node, error) {
	stack := []*Node{t.Root()}
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		child, err := stack[len(stack)-1].Lookup(ctx, right, name)
		if err != nil {
			return nil, err
		}
		if child.Type() != unix.S_IFLNK || len(todo) == 0 && !follow {
			stack = append(stack, child)
			continue
		}
		if links++; links > maxSymlinks {
			return nil, unix.ELOOP
		}
		if strings.HasPrefix(child.target, "/") {
			return nil, fmt.Errorf("%s: symbolic link to %s leads out of the tree: %w", name, child.target, fs.ErrNotExist)
		}
		todo = append(strings.Split(child.target, "/"), todo...)
	}
	return stack[len(stack)-1], nil
}
