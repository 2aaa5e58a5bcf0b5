package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/volumes"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// What lies on the disks of a snapshot is found by looking at all of its disk images
// together, when somebody enters the first of their directories.

// ErrNoAccess matches errors about what is there and cannot be shown: it is encrypted, or
// of a kind that is not known here.
var ErrNoAccess = errors.New("cannot be shown")

// diskSuffix is added to the name of an image for the directory with what lies on it.
const diskSuffix = ".d"

// disksOf returns the directories of the disk images among items.
func disksOf(items []item) []item {
	taken := make(map[string]bool, len(items))
	for _, it := range items {
		taken[it.shown] = true
	}
	var out []item
	for _, it := range items {
		if shown := it.shown + diskSuffix; isDisk(it) && !taken[shown] {
			out = append(out, item{shown: shown, kind: diskItem, file: it.file})
		}
	}
	return out
}

// isDisk reports whether the item is the image of a disk.
func isDisk(it item) bool {
	return it.kind == streamItem && it.file.Name.Format() == name.Fixed && strings.HasSuffix(it.file.Name.Stem(), ".img")
}

// fillDisk makes n the directory of a disk.
func (d *loaded) fillDisk(n *Node, it item) {
	n.attr.Mode, n.attr.Nlink, n.frozen = dirMode, 1, true
	n.attr.Size, n.attr.Blocks = 0, 0
	m := d.machine()
	if _, err := d.s.Stream(it.file); err != nil {
		n.attr.Mode = unix.S_IFDIR | 0o500
		n.body = &broken{err}
		return
	}
	for i, f := range m.files {
		if f.Name == it.file.Name {
			n.body = &diskDir{m, i, onDisk}
		}
	}
}

// machine is the disks of a snapshot.
type machine struct {
	t       *Tree
	s       *store.Snapshot
	files   []manifest.File
	streams []*store.Stream

	looking chan struct{} // capacity 1: held while the disks are looked at
	mu      sync.Mutex    // guards layout; nothing is called under it
	layout  *volumes.Layout
}

// machine returns the disks of the snapshot. Those whose key is missing are left out.
func (d *loaded) machine() *machine {
	if m, ok := d.t.machines.Get(d.s); ok {
		return m
	}
	m := &machine{t: d.t, s: d.s, looking: make(chan struct{}, 1)}
	for _, it := range itemsOf(d.s) {
		if !isDisk(it) {
			continue
		}
		if stream, err := d.s.Stream(it.file); err == nil {
			m.files, m.streams = append(m.files, it.file), append(m.streams, stream)
		}
	}
	d.t.machines.Put(d.s, m, 1)
	return m
}

// readers returns the disks for one call.
func (m *machine) readers(ctx context.Context, right store.CanRead) []io.ReaderAt {
	out := make([]io.ReaderAt, len(m.streams))
	for i, s := range m.streams {
		out[i] = s.At(ctx, right)
	}
	return out
}

// look returns what lies on the disks. It looks once.
func (m *machine) look(ctx context.Context, right store.CanRead) (*volumes.Layout, error) {
	if l := m.seen(); l != nil {
		return l, nil
	}
	select {
	case m.looking <- struct{}{}:
		defer func() { <-m.looking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l := m.seen(); l != nil {
		return l, nil
	}
	var failed failure
	readers, sizes := m.readers(ctx, right), make([]int64, len(m.streams))
	for i, s := range m.streams {
		readers[i], sizes[i] = &watched{readers[i], &failed}, s.Size()
	}
	l := volumes.Scan(readers, sizes)
	if err := l.Measure(holes{ctx, right, m}); err != nil {
		return nil, err
	}
	if err := failed.first(); err != nil { // not of the disks, but of this call
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layout = l
	return l, nil
}

func (m *machine) seen() *volumes.Layout {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layout
}

// failure keeps the first error that says nothing about the disks.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) first() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// watched is a disk whose errors are looked at.
type watched struct {
	io.ReaderAt
	failed *failure
}

// ReadAt is that of an io.ReaderAt.
func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && !ofSnapshot(err) {
		w.failed.mu.Lock()
		defer w.failed.mu.Unlock()
		if w.failed.err == nil {
			w.failed.err = err
		}
	}
	return n, err
}

// wrap adds to an error of a decoder where it occurred: the disk and the volume.
func (m *machine) wrap(disk int, where string, err error) error {
	var own *store.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return fmt.Errorf("%s%s/%s: %w", m.files[disk].Name.Stem(), diskSuffix, where, err)
	case errors.Is(err, image.ErrEncrypted), errors.Is(err, image.ErrUnsupported):
		err = fmt.Errorf("%w: %w", ErrNoAccess, err)
	case !errors.Is(err, store.ErrCorrupt):
		return err
	}
	return m.s.Wrap(m.files[disk].Name, -1, fmt.Errorf("%s: %w", where, err))
}
