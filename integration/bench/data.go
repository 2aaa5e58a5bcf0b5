package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/maint/hosts"
)

// What the data is like at scale 1.
const (
	treeEntries = 75_000
	treeBytes   = 1_400_000_000
	imageBytes  = 4 << 30
	imageData   = 760_000_000
)

// Names in the directory of the data.
const (
	storeDir  = "store"
	treeDir   = "tree"
	imageFile = "disk.img"
	squashed  = "image.squashfs"
	resticDir = "restic"
)

// data is what is measured.
type data struct {
	dir     string
	largest string // the largest file, below the tree
	entries int
	bytes   int64
}

func (d *data) at(name string) string { return filepath.Join(d.dir, name) }

// host is where operations are counted in this process, as in those that [data.pbsfs] runs.
func (d *data) host() (hosts.Host, error) {
	return hosts.NewHost(hosts.HostOptions{
		ConfigDir: d.at("etc"), RunDir: d.at("run"), UID: os.Geteuid(), Getenv: func(string) string { return "" },
	})
}

// doneMark is there when all data is.
const doneMark = "complete"

// makeData makes the data, or finds what an earlier run has made in the same
// directory.
func makeData(ctx context.Context, o options) (*data, error) {
	d := &data{dir: o.dir}
	if text, err := os.ReadFile(d.at(doneMark)); err == nil {
		_, err := fmt.Sscanf(string(text), "%d %d %q", &d.entries, &d.bytes, &d.largest)
		return d, err
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"tree", func() error { return d.makeTree(ctx, o) }},
		{"image", func() error { return d.makeImage(ctx, o) }},
		{"datastore", func() error { return d.makeStore(ctx, o) }},
		{"squashfs", func() error {
			return d.peer(ctx, "mksquashfs", d.at(treeDir), d.at(imageFile), d.at(squashed), "-keep-as-directory", "-comp", "zstd", "-Xcompression-level", "3", "-no-progress", "-quiet")
		}},
		{"restic", func() error { return d.makeRestic(ctx) }},
	}
	for _, s := range steps {
		start := time.Now()
		if err := s.do(); err != nil {
			return nil, fmt.Errorf("making the %s: %w", s.what, err)
		}
		fmt.Fprintf(os.Stderr, "made the %s in %.1f s\n", s.what, time.Since(start).Seconds())
	}
	fmt.Fprintf(os.Stderr, "tree: %d entries, %d MB; largest file %s\n", d.entries, d.bytes/1e6, d.largest)
	return d, os.WriteFile(d.at(doneMark), fmt.Appendf(nil, "%d %d %q\n", d.entries, d.bytes, d.largest), 0o600)
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// makeTree copies files until there are enough entries or bytes.
func (d *data) makeTree(ctx context.Context, o options) error {
	entries, size := int(treeEntries*o.scale), int64(treeBytes*o.scale)
	largest := int64(-1)
	err := filepath.WalkDir(o.from, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return nil
		case d.entries >= entries || d.bytes >= size:
			return errEnough
		}
		rel, err := filepath.Rel(o.from, path)
		if err != nil {
			return err
		}
		// Large files only as far as small ones make up for them, so that the mean
		// is that of the whole; and one now and then that is larger than all others.
		budget := int64(d.entries+1)*(size/int64(max(entries, 1))) - d.bytes
		keep := func(n int64) bool { return n <= budget || n > 2*largest && n <= size/8 }
		n, err := copyEntry(path, filepath.Join(d.at(treeDir), rel), e, keep)
		if err != nil || n < 0 {
			return err
		}
		d.entries++
		d.bytes += n
		if n > largest {
			largest, d.largest = n, rel
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// copyEntry copies one entry and returns how many bytes it has, -1 if it was left
// out.
func copyEntry(from, to string, e fs.DirEntry, keep func(size int64) bool) (int64, error) {
	switch {
	case e.IsDir():
		return 0, os.MkdirAll(to, 0o755)
	case e.Type() == fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return -1, err
		}
		return 0, os.Symlink(target, to)
	case !e.Type().IsRegular():
		return -1, nil
	}
	info, err := e.Info()
	if err != nil || !keep(info.Size()) {
		return -1, err
	}
	in, err := os.Open(from)
	if err != nil {
		return -1, nil
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return -1, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close(), os.Chtimes(to, time.Time{}, info.ModTime()))
}

// makeImage makes a disk image with a file system that is filled with a part of
// the tree.
func (d *data) makeImage(ctx context.Context, o options) error {
	part := d.at("part")
	size := int64(0)
	err := filepath.WalkDir(d.at(treeDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || size >= int64(imageData*o.scale) {
			return errors.Join(err, errEnough)
		}
		rel, err := filepath.Rel(d.at(treeDir), path)
		if err != nil {
			return err
		}
		to := filepath.Join(part, rel)
		switch info, ierr := e.Info(); {
		case ierr != nil:
			return ierr
		case e.IsDir():
			return os.MkdirAll(to, 0o755)
		case info.Mode().IsRegular():
			size += info.Size()
			return os.Link(path, to)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-d", part, d.at(imageFile), fmt.Sprintf("%dM", int64(imageBytes*o.scale)>>20)); err != nil {
		return err
	}
	return os.RemoveAll(part)
}

// makeStore stores both in a datastore, the tree in both formats.
func (d *data) makeStore(ctx context.Context, o options) error {
	create := func(args ...string) error {
		return d.pbsfs(ctx, o.pbsfs, newCache, append([]string{"snapshot", "create", "--init"}, args...)...)
	}
	tree := "tree.pxar:" + d.at(treeDir)
	return errors.Join(
		create(tree, d.at(storeDir), "--id", "v1"),
		create(tree, d.at(storeDir), "--id", "split", "--format", "split"),
		create("disk.img:"+d.at(imageFile), d.at(storeDir), "--type", "vm", "--id", "1"),
	)
}

// What pbsfs remembers on disk: of rows that begin with nothing, and of those that
// find what an earlier mount has left.
const (
	newCache  = "cache-new"
	keptCache = "cache-kept"
)

// pbsfs runs a build of pbsfs with a configuration and a cache of its own.
func (d *data) pbsfs(ctx context.Context, program, cache string, args ...string) error {
	for _, dir := range []string{"etc", "run", cache} {
		if err := os.MkdirAll(d.at(dir), 0o700); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PBSFS_CONFIG_DIR="+d.at("etc"), "PBSFS_RUN_DIR="+d.at("run"),
		"XDG_CACHE_HOME="+d.at(cache), "XDG_CONFIG_HOME="+d.at("etc"))
	return output(cmd)
}

// makeRestic stores both in a restic repository.
func (d *data) makeRestic(ctx context.Context) error {
	if _, err := exec.LookPath("restic"); err != nil {
		return nil
	}
	for _, args := range [][]string{{"init"}, {"backup", d.at(treeDir), d.at(imageFile)}} {
		if err := output(d.restic(ctx, args...)); err != nil {
			return err
		}
	}
	return nil
}

func (d *data) restic(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "restic", append([]string{"--quiet", "-r", d.at(resticDir)}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=none", "XDG_CACHE_HOME="+d.at("cache-restic"))
	return cmd
}

// peer runs a program, if it is installed.
func (d *data) peer(ctx context.Context, name string, args ...string) error {
	if _, err := exec.LookPath(name); err != nil {
		fmt.Fprintf(os.Stderr, "%s is not installed: not compared with\n", name)
		return nil
	}
	return command(ctx, name, args...)
}

func command(ctx context.Context, name string, args ...string) error {
	return output(exec.CommandContext(ctx, name, args...))
}

// output runs a program, whose output is of interest only when it fails.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
