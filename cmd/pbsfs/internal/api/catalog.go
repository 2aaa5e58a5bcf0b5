package api

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// catalogIn are the parameters of listCatalog.
type catalogIn struct {
	snapshotIn
	Path treePath `param:"filepath" doc:"base64 of / or of /STORED-ARCHIVE-NAME/path/in/it"`
}

// CatalogItem is an entry of a directory in an archive.
type CatalogItem struct {
	Filepath string `json:"filepath"` // base64 of its path, for the next request
	Text     string `json:"text"`
	Leaf     bool   `json:"leaf"`
	Type     string `json:"type"`
	Size     *int64 `json:"size,omitempty"`
	Mtime    *int64 `json:"mtime,omitempty"`
	// Target is that of a symbolic link, and Problem says why the entry cannot be read.
	Target  string `json:"target,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// held calls fn with a node below the directory of a snapshot, and with a right that
// keeps the snapshot from being removed.
func (c *call) held(in snapshotIn, fn func(ctx context.Context, d *opened, r *store.Reader, dir *tree.Node) error) error {
	snap, err := in.snapshot()
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	return c.noting(in.Store, c.Stores.use(ctx, in.Store, func(d *opened) error {
		var dir *tree.Node
		err := d.ref.View(ctx, func(r *store.Reader) (err error) {
			dir, err = d.tree.Walk(ctx, r, snap.String(), false)
			return missing("snapshot", snap.String(), err)
		})
		if err != nil {
			return err
		}
		r, err := tree.Hold(ctx, d.ref, dir)
		if err != nil {
			return missing("snapshot", snap.String(), err)
		}
		defer r.Release()
		return fn(ctx, d, r, dir)
	}))
}

// addShown adds to files of a snapshot the names that a tree shows, and what is wrong.
func (c *call) addShown(ctx context.Context, d *opened, r *store.Reader, snap name.Snapshot, files []FileItem) error {
	dir, err := d.tree.Walk(ctx, r, snap.String(), false)
	if err != nil {
		return err
	}
	return visit(ctx, r, dir, func(e tree.Entry) error {
		i := slices.IndexFunc(files, func(f FileItem) bool { return f.Filename == e.Stored.String() })
		if i < 0 || files[i].Shown != "" { // the directory of a disk comes after its image
			return nil
		}
		files[i].Shown = e.Name
		n, err := dir.Lookup(ctx, r, e.Name)
		if err == nil {
			err = n.Broken()
		}
		var own *store.Error
		if errors.As(err, &own) {
			files[i].Problem = message(err)
			err = nil
		}
		return err
	})
}

// visit is tree.Visit for a listing that is complete by itself: of a snapshot, the
// manifest has said what is left out.
func visit(ctx context.Context, r *store.Reader, dir *tree.Node, fn func(tree.Entry) error) error {
	err := tree.Visit(ctx, r, dir, fn)
	if errors.Is(err, tree.ErrIncomplete) {
		return nil
	}
	return err
}

func listCatalog(c *call, in catalogIn) (out []CatalogItem, err error) {
	err = c.held(in.snapshotIn, func(ctx context.Context, _ *opened, r *store.Reader, dir *tree.Node) error {
		if len(in.Path) == 0 {
			out, err = archives(ctx, r, dir)
			return err
		}
		n, err := nodeAt(ctx, r, dir, in.Path)
		if err != nil {
			return err
		}
		out, err = c.entries(ctx, r, n, in.Path)
		return err
	})
	return out, err
}

// archives lists the archives of a snapshot, and its disks, which have files as well.
func archives(ctx context.Context, r *store.Reader, dir *tree.Node) ([]CatalogItem, error) {
	out := []CatalogItem{}
	err := visit(ctx, r, dir, func(e tree.Entry) error {
		if e.Type != unix.S_IFDIR {
			return nil
		}
		stored := e.Stored.String()
		item := CatalogItem{Filepath: encodePath(treePath{stored}), Text: stored, Type: "d"}
		n, err := dir.Lookup(ctx, r, e.Name)
		if err == nil {
			err = n.Broken()
		}
		var own *store.Error
		if errors.As(err, &own) {
			item.Problem = message(err)
			err = nil
		}
		out = append(out, item)
		return err
	})
	return out, err
}

// encodePath returns a path in the form in which parsePath reads it.
func encodePath(p treePath) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(p, "/")))
}

// nodeAt returns the object at a path that begins with the stored name of an archive.
// Symbolic links are not followed.
func nodeAt(ctx context.Context, r *store.Reader, dir *tree.Node, p treePath) (*tree.Node, error) {
	n, err := storedNode(ctx, r, dir, p[0])
	for _, part := range p[1:] {
		if err != nil {
			break
		}
		if err = n.Broken(); err == nil {
			n, err = n.Lookup(ctx, r, part)
		}
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, &notDirectory{strings.Join(p, "/"), err}
	}
	if err != nil {
		return nil, missing("file", "/"+strings.Join(p, "/"), err)
	}
	return n, nil
}

// notDirectory says that a path leads through what is no directory.
type notDirectory struct {
	path string
	err  error
}

func (e *notDirectory) Error() string {
	return "/" + text.Printable(e.path) + ": parent is not a directory"
}

func (e *notDirectory) Unwrap() error { return e.err }

// storedNode returns the entry of a snapshot that shows a stored file, a directory rather
// than the image of the disk that it shows; or the entry that has the name itself.
func storedNode(ctx context.Context, r *store.Reader, dir *tree.Node, called string) (*tree.Node, error) {
	shown := called
	err := visit(ctx, r, dir, func(e tree.Entry) error {
		if e.Stored.String() == called && (shown == called || e.Type == unix.S_IFDIR) {
			shown = e.Name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return dir.Lookup(ctx, r, shown)
}

// entries lists a directory of an archive, with the attributes of the entries.
func (c *call) entries(ctx context.Context, r *store.Reader, n *tree.Node, p treePath) ([]CatalogItem, error) {
	if err := n.Broken(); err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &notDirectory{strings.Join(p, "/"), syscall.ENOTDIR}
	}
	out := []CatalogItem{}
	err := tree.Visit(ctx, r, n, func(e tree.Entry) error {
		child, err := e.Node, e.Err
		if child == nil && err == nil {
			child, err = n.Lookup(ctx, r, e.Name)
		}
		var own *store.Error
		if err != nil && !errors.As(err, &own) {
			return err
		}
		out = append(out, itemOf(e, child, p, err))
		return nil
	})
	if errors.Is(err, tree.ErrIncomplete) {
		c.put("incomplete", message(err))
		err = nil
	}
	return out, err
}

// itemOf describes an entry. n is nil if it could not be read, for the reason err.
func itemOf(e tree.Entry, n *tree.Node, p treePath, err error) CatalogItem {
	item := CatalogItem{Filepath: encodePath(append(slices.Clone(p), e.Name)), Text: e.Name, Type: letter(e.Type)}
	if err != nil {
		item.Problem = message(err)
	}
	if n != nil {
		item.Type = letter(n.Type())
		a := n.Attr()
		if n.Type() == unix.S_IFREG {
			item.Size = &a.Size
		}
		item.Mtime = &a.Mtime.Sec
		item.Target = n.Target()
	}
	item.Leaf = item.Type != "d"
	return item
}

// letter returns the letter that catalogs have for a type.
func letter(mode uint32) string {
	switch mode {
	case unix.S_IFDIR:
		return "d"
	case unix.S_IFLNK:
		return "l"
	case unix.S_IFBLK:
		return "b"
	case unix.S_IFCHR:
		return "c"
	case unix.S_IFIFO:
		return "p"
	case unix.S_IFSOCK:
		return "s"
	}
	return "f"
}
