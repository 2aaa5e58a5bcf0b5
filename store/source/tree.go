package source

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// Options say how a directory is read.
type Options struct {
	// AllFileSystems descends into other file systems. Without it a mount point
	// is an empty directory, as for the official client.
	AllFileSystems bool
	// Empty are directories, by path, that are stored as if nothing were in them,
	// and why: what the archive is written to must not be read into it.
	Empty map[string]string
	// Warn is told of what is not stored as it is, or not at all. What is there
	// and not stored whole matches [ErrIncomplete]; what vanished or changed in the
	// meantime does not. It is called by the goroutine that walks; nil ignores it.
	Warn func(path string, err error)
	// Progress is told how many entries and bytes of content are done since it
	// was called last. In the end they add up to what Total says of an idle
	// tree, less what had to be left out. It must be quick; nil ignores it.
	Progress func(files, bytes int64)
}

// Tree is a directory and all that is below it.
type Tree struct {
	fd   int
	path string // as it is shown
	dev  uint64
}

// Open opens a directory. A symbolic link in the path itself is followed. What
// the kernel makes up, such as /proc, is refused. The caller must Close it.
func Open(dir string) (*Tree, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	t := &Tree{fd: fd, path: filepath.Clean(dir)}
	st, err := fstat(fd)
	if err == nil && isVirtual(fd) {
		err = fmt.Errorf("the kernel makes up what is in it: %w", fs.ErrInvalid)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	t.dev = st.Dev
	return t, nil
}

// Close closes the directory. It must not run beside other calls.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// Unified writes the tree as an archive in one stream, and lists it in cat,
// unless that is nil, under the archive's stored name: "root.pxar.didx".
// Neither archive nor cat is closed. After an error there is no archive, and cat
// is of no use.
func (t *Tree) Unified(ctx context.Context, archive io.Writer, cat *catalog.Encoder, name string, opts Options) error {
	begin := func(root *pxar.Metadata) (*pxar.Encoder, error) { return pxar.NewEncoder(archive, root) }
	return t.write(ctx, begin, &listing{enc: cat}, name, opts)
}

// Split writes the tree as an archive in two streams, neither of which is
// closed. After an error there is no archive.
func (t *Tree) Split(ctx context.Context, meta, payload io.Writer, opts Options) error {
	begin := func(root *pxar.Metadata) (*pxar.Encoder, error) {
		return pxar.NewSplitEncoder(meta, payload, nil, root)
	}
	return t.write(ctx, begin, &listing{}, "", opts)
}

// Total counts what a walk with the same options would store: entries below
// the directory, and bytes of content. It looks at every entry and reads no
// file; what it cannot look at it leaves out, without a warning.
func (t *Tree) Total(ctx context.Context, opts Options) (files, bytes int64, err error) {
	c := &counter{seen: make(links[struct{}])}
	w := &walker{ctx: ctx, tree: t, opts: Options{AllFileSystems: opts.AllFileSystems, Empty: opts.Empty}}
	err = w.run(c)
	return c.files, c.bytes, err
}

// beginner begins an archive with the attributes of its root directory.
type beginner func(root *pxar.Metadata) (*pxar.Encoder, error)

func (t *Tree) write(ctx context.Context, begin beginner, list *listing, name string, opts Options) error {
	w := &walker{ctx: ctx, tree: t, opts: opts}
	a := &archiver{walker: w, begin: begin, list: list, name: name, links: make(links[pxar.Link])}
	if err := w.run(a); err != nil {
		return err
	}
	return a.enc.Close()
}
