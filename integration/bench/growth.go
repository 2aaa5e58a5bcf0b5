package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// series is how time and memory grow with one size.
type series struct {
	title, x string
	points   []point
}

type point struct{ x, seconds, mib float64 }

// measureGrowth makes datastores of growing sizes and plots what using them
// takes.
func measureGrowth(ctx context.Context, o options) error {
	g := &grower{data: &data{dir: o.dir}, o: o}
	if err := g.begin(ctx); err != nil {
		return err
	}
	defer g.end()
	var all []series
	for _, format := range []string{"v1", "split"} {
		s := series{title: "find -ls, archive " + format, x: "entries"}
		for _, n := range scaled(o, 10_000, 100_000, 1_000_000, 5_000_000) {
			p, err := g.entries(ctx, format, n)
			if err != nil {
				return fmt.Errorf("%d entries: %w", n, err)
			}
			s.add(p)
		}
		all = append(all, s)
	}
	images := series{title: "first and last block of a sparse image", x: "GiB"}
	for _, n := range scaled(o, 16, 256, 4096, 16384) {
		p, err := g.image(ctx, int64(n))
		if err != nil {
			return fmt.Errorf("image of %d GiB: %w", n, err)
		}
		images.add(p)
	}
	snapshots := series{title: "ls of a group", x: "snapshots"}
	for _, n := range scaled(o, 100, 1000, 10_000, 100_000) {
		p, err := g.snapshots(ctx, n)
		if err != nil {
			return fmt.Errorf("%d snapshots: %w", n, err)
		}
		snapshots.add(p)
	}
	return os.WriteFile(o.growth, plot(append(all, images, snapshots)), 0o644)
}

func scaled(o options, sizes ...int) (out []int) {
	for _, n := range sizes {
		out = append(out, max(1, int(float64(n)*o.scale)))
	}
	return out
}

func (s *series) add(p point) {
	s.points = append(s.points, p)
	fmt.Printf("%-40s %10.0f %-10s %8.3f s %8.1f MiB\n", s.title, p.x, s.x, p.seconds, p.mib)
}

// grower writes datastores in this process: nothing of their size has to be on
// disk before.
type grower struct {
	*data
	o   options
	ref *store.Lookup
	w   *store.Writer
}

func (g *grower) begin(ctx context.Context) error {
	for _, dir := range []string{"", "etc", "run", "store/.chunks"} {
		if err := os.MkdirAll(g.at(dir), 0o700); err != nil {
			return err
		}
	}
	host, err := g.host()
	if err != nil {
		return err
	}
	if g.ref, err = store.Open(ctx, store.Options{Name: "growth", Path: g.at(storeDir), Host: host}); err != nil {
		return err
	}
	g.w, err = g.ref.AcquireWriter(ctx)
	return err
}

func (g *grower) end() {
	g.w.Release()
	_ = g.ref.Close()
}

// write writes a snapshot and returns its path in a mount.
func (g *grower) write(ctx context.Context, typ name.Type, id string, fill func(*store.SnapshotWriter) error) (string, error) {
	group, err := name.NewGroup(name.Namespace{}, typ, id)
	if err != nil {
		return "", err
	}
	s, err := store.BeginSnapshot(ctx, g.w, group, store.SnapshotOptions{})
	if err != nil {
		return "", err
	}
	if err := fill(s); err != nil {
		return "", errors.Join(err, s.Abort())
	}
	return s.Name().String(), s.Finish(ctx)
}

// use mounts the datastore, and returns what using a path in it takes.
func (g *grower) use(ctx context.Context, x float64, use func(mount string) error) (p point, err error) {
	s, err := g.mountPbsfs(ctx, g.o.pbsfs, "", g.o, row{})
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	dropCaches()
	start := time.Now()
	err = use(filepath.Clean(filepath.Join(s.image, "../../../..")))
	return point{x, time.Since(start).Seconds(), peakMiB(s.pid)}, err
}

// entries measures an archive of n files in directories of 1,000.
func (g *grower) entries(ctx context.Context, format string, n int) (point, error) {
	at, err := g.write(ctx, name.Host, fmt.Sprintf("%s-%d", format, n), func(s *store.SnapshotWriter) error {
		if format == "v1" {
			return writeUnified(ctx, s, n)
		}
		return writeSplit(ctx, s, n)
	})
	if err != nil {
		return point{}, err
	}
	return g.use(ctx, float64(n), func(mount string) error {
		_, err := timed(ctx, filepath.Join(mount, at, "tree.pxar"), "find", "{}", "-ls")
		return err
	})
}

func writeUnified(ctx context.Context, s *store.SnapshotWriter, n int) error {
	archive, err := s.Stream(ctx, name.Catalog)
	if err != nil {
		return err
	}
	list := catalog.NewEncoder(archive)
	f, err := name.ParseFile("tree.pxar.didx")
	if err != nil {
		return err
	}
	w, err := s.Stream(ctx, f)
	if err != nil {
		return err
	}
	e, err := pxar.NewEncoder(w, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755})
	if err != nil {
		return err
	}
	if err := errors.Join(list.StartDir(f.String()), fillTree(e, list, n), list.EndDir(), list.Close()); err != nil {
		return err
	}
	return errors.Join(e.Close(), w.Close(), archive.Close())
}

func writeSplit(ctx context.Context, s *store.SnapshotWriter, n int) error {
	var streams [2]*store.StreamWriter
	for i, file := range []string{"tree.mpxar.didx", "tree.ppxar.didx"} {
		f, err := name.ParseFile(file)
		if err != nil {
			return err
		}
		if streams[i], err = s.Stream(ctx, f); err != nil {
			return err
		}
	}
	e, err := pxar.NewSplitEncoder(streams[0], streams[1], nil, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755})
	if err != nil {
		return err
	}
	return errors.Join(fillTree(e, nil, n), e.Close(), streams[0].Close(), streams[1].Close())
}

// fillTree adds n small files, and lists them unless list is nil.
func fillTree(e *pxar.Encoder, list *catalog.Encoder, n int) error {
	const perDir = 1000
	content := make([]byte, 100)
	for i := 0; i < n; i++ {
		if i%perDir == 0 {
			dir := fmt.Sprintf("dir-%06d", i/perDir)
			if err := e.StartDir(dir, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755}); err != nil {
				return err
			}
			if list != nil {
				if err := list.StartDir(dir); err != nil {
					return err
				}
			}
		}
		file := fmt.Sprintf("file-%06d.txt", i%perDir)
		copy(content, file)
		if _, err := e.AddFile(file, &pxar.Metadata{Mode: unix.S_IFREG | 0o644, UID: 1000}, int64(len(content)), bytes.NewReader(content)); err != nil {
			return err
		}
		if list != nil {
			if err := list.Add(catalog.Entry{Name: file, Kind: catalog.File, Size: uint64(len(content))}); err != nil {
				return err
			}
		}
		if i%perDir == perDir-1 || i == n-1 {
			if err := e.EndDir(); err != nil {
				return err
			}
			if list != nil {
				if err := list.EndDir(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sparse is an image with data in its first and last block.
type sparse struct{ size int64 }

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off == 0 || off+int64(len(p)) == s.size {
		p[0] = 1
	}
	return len(p), nil
}

func (s sparse) NextData(off int64) (int64, error) {
	const block = 4 << 20
	if off < block {
		return off, nil
	}
	return max(off, s.size-block), nil
}

// image measures a sparse image.
func (g *grower) image(ctx context.Context, gib int64) (point, error) {
	src := sparse{gib << 30}
	at, err := g.write(ctx, name.VM, fmt.Sprint(gib), func(s *store.SnapshotWriter) error {
		f, err := name.ParseFile("disk.img.fidx")
		if err != nil {
			return err
		}
		_, err = s.Image(ctx, f, src, src.size, nil)
		return err
	})
	if err != nil {
		return point{}, err
	}
	return g.use(ctx, float64(gib), func(mount string) error {
		f, err := os.Open(filepath.Join(mount, at, "disk.img"))
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, 4096)
		_, first := f.ReadAt(buf, 0)
		_, last := f.ReadAt(buf, src.size-4096)
		return errors.Join(first, last)
	})
}

// snapshots measures a group of n snapshots, which have nothing but a manifest.
func (g *grower) snapshots(ctx context.Context, n int) (point, error) {
	group, err := name.NewGroup(name.Namespace{}, name.CT, fmt.Sprint(n))
	if err != nil {
		return point{}, err
	}
	for i := range n {
		t, err := name.NewTime(time.Unix(1_600_000_000+int64(i)*3600, 0))
		if err != nil {
			return point{}, err
		}
		s, err := name.NewSnapshot(group, t)
		if err != nil {
			return point{}, err
		}
		text, err := (&manifest.Draft{Snapshot: s}).Encode()
		if err != nil {
			return point{}, err
		}
		dir := filepath.Join(g.at(storeDir), s.Dir())
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name.Manifest.String()), text, fs.FileMode(0o644))); err != nil {
			return point{}, err
		}
	}
	return g.use(ctx, float64(n), func(mount string) error {
		_, err := timed(ctx, filepath.Join(mount, group.String()), "ls", "{}")
		return err
	})
}
