package store

import (
	"context"
	"errors"
	"strings"

	"github.com/pbsfs/pbsfs/store/catalog"
)

// linkedDirs are the directories of a unified archive that have a hard link somewhere
// below. Whether such a directory is the same as another one, its bytes do not tell: the
// file that a link leads to may lie outside.
type linkedDirs struct {
	unknown bool // it is not known which
	dirs    map[string]struct{}
}

// maxLinkedDirs bounds how many such directories are remembered of an archive.
const maxLinkedDirs = 100_000

func (l *linkedDirs) below(path string) bool {
	_, linked := l.dirs[path]
	return l.unknown || linked
}

// linkedDirs returns the directories with hard links, from the catalog. Without a usable
// catalog, all may have some.
func (a *Archive) linkedDirs(ctx context.Context, right CanRead) (*linkedDirs, error) {
	if l := a.linked.Load(); l != nil {
		return l, nil
	}
	l := &linkedDirs{dirs: make(map[string]struct{})}
	stream, err := a.meta.snap.catalogStream()
	if err == nil {
		err = l.read(ctx, right, stream, a.meta.file.Name.String())
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrKeyNeeded) {
		l, err = &linkedDirs{unknown: true}, nil
	}
	if err == nil {
		a.linked.Store(l)
	}
	return l, err
}

func (l *linkedDirs) read(ctx context.Context, right CanRead, stream *Stream, archive string) error {
	r := stream.At(ctx, right)
	c, err := catalog.Open(r, stream.Size())
	if err != nil {
		return err
	}
	return c.Walk(ctx, r, archive, func(path []string, e catalog.Entry) error {
		if e.Kind != catalog.HardLink || l.unknown {
			return nil
		}
		for n := range len(path) {
			l.dirs[joined(path[:n])] = struct{}{}
		}
		l.unknown = len(l.dirs) > maxLinkedDirs
		return nil
	})
}

// joined returns the path of a directory below the archive's top.
func joined(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return "/" + strings.Join(path, "/")
}
