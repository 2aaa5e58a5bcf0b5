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
	// AllFileSystems makes the walk enter other file systems. Without it a mount point
	// is an empty directory, as in the official client.
	AllFileSystems bool
	// Empty lists directories, by path, that are stored as if they were empty, with the
	// reason: the place to which the archive is written must not be read into it.
	Empty map[string]string
	// Warn gets an error for everything that is not stored as it is, or not at all. The
	// error matches [ErrIncomplete] if the file exists and is not stored whole; it does
	// not if the file vanished or changed in the meantime. The goroutine that walks
	// calls Warn; nil ignores the errors.
	Warn func(path string, err error)
	// Progress gets the number of entries and bytes of content that are done since its
	// last call. In the end they add up to the result of Total for an idle tree, minus
	// what had to be left out. It must be quick; nil ignores the numbers.
	Progress func(files, bytes int64)
}

// Tree is a directory with everything below it.
type Tree struct {
	fd   int
	path string // in the form in which it is shown
	dev  uint64
}

// Open opens a directory. It follows a symbolic link in the path itself. It refuses
// virtual file systems of the kernel, such as /proc. The caller must Close the tree.
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

// Close closes the directory. It must not be called while another call runs.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// Unified writes the tree as an archive in one stream. Unless cat is nil, it lists the
// tree there under the archive's stored name, such as "root.pxar.didx". It closes
// neither archive nor cat. After an error there is no archive, and cat is of no use.
func (t *Tree) Unified(ctx context.Context, archive io.Writer, cat *catalog.Encoder, name string, opts Options) error {
	begin := func(root *pxar.Metadata) (*pxar.Encoder, error) { return pxar.NewEncoder(archive, root) }
	return t.write(ctx, begin, &listing{enc: cat}, name, opts)
}

// Split writes the tree as an archive in two streams. It closes neither of them. After
// an error there is no archive.
func (t *Tree) Split(ctx context.Context, meta, payload io.Writer, opts Options) error {
	begin := func(root *pxar.Metadata) (*pxar.Encoder, error) {
		return pxar.NewSplitEncoder(meta, payload, nil, root)
	}
	return t.write(ctx, begin, &listing{}, "", opts)
}

// Total counts what a walk with the same options would store: the entries below the
// directory, and the bytes of content. It looks at every entry and reads no file. It
// leaves out entries that it cannot look at, without a warning.
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
