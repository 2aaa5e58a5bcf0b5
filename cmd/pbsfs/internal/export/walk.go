package export

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// ErrLimit says that a directory is too deep or has too many entries for an archive.
var ErrLimit = errors.New("too much for one archive; take a directory below")

// limits bound an archive.
type limits struct {
	depth   int // levels of directories
	entries int
	links   int // bytes of memory for the paths of hard links
}

var (
	usual = limits{depth: 1024, entries: 10_000_000, links: 32 << 20}
	// zipped are those of a zip, whose directory is in memory until the end: some 300 bytes
	// an entry, and its path.
	zipped = limits{depth: 1024, entries: 1_000_000}
)

// sink is an archive that is being written.
type sink interface {
	// add writes an object. The path of a directory has no slash at its end.
	add(ctx context.Context, path string, n *tree.Node) error
}

// walker writes a directory with everything below it.
type walker struct {
	right   store.CanRead
	out     sink
	max     limits
	entries int
}

// walk writes n by the given name.
func (w *walker) walk(ctx context.Context, n *tree.Node, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if !n.IsDir() {
		return &Error{Path: name, Err: unix.ENOTDIR}
	}
	return w.object(ctx, name, n, 1)
}

// object writes n, and what is below it.
func (w *walker) object(ctx context.Context, path string, n *tree.Node, depth int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if w.entries++; w.entries > w.max.entries {
		return &Error{path, fmt.Errorf("more than %d entries: %w", w.max.entries, ErrLimit)}
	}
	if err := w.out.add(ctx, path, n); err != nil {
		return atPath(path, err)
	}
	if !n.IsDir() {
		return nil
	}
	if depth > w.max.depth {
		return &Error{path, fmt.Errorf("more than %d levels: %w", w.max.depth, ErrLimit)}
	}
	return atPath(path, w.children(ctx, path, n, depth))
}

func (w *walker) children(ctx context.Context, path string, n *tree.Node, depth int) error {
	return tree.Visit(ctx, w.right, n, func(e tree.Entry) error {
		if err := checkName(e.Name); err != nil {
			return err
		}
		below := path + "/" + e.Name
		if e.Err != nil {
			return atPath(below, fmt.Errorf("%w: %w", tree.ErrIncomplete, e.Err))
		}
		child, err := n.Lookup(ctx, w.right, e.Name) // even if e has a node: see doc.go
		if err != nil {
			return atPath(below, err)
		}
		return w.object(ctx, below, child, depth+1)
	})
}

// checkName refuses what is no name of an entry in a directory.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is no name: %w", name, store.ErrCorrupt)
	}
	return nil
}

// Error says at which object an archive broke off.
type Error struct {
	Path string // in the archive
	Err  error
}

// Error quotes the path, because others chose it.
func (e *Error) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// atPath adds a path to an error that has none yet.
func atPath(path string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &Error{path, err}
}
