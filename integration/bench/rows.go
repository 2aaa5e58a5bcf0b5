package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// row is a use of a mount.
type row struct {
	name string
	// do uses the mount and returns how long that took, or how often it could be
	// done in a second.
	do   func(ctx context.Context, s *served) (float64, error)
	rate bool // more is better

	image     bool  // it uses the image
	keepCache bool  // pbsfs finds what an earlier mount remembered on disk
	cacheMiB  int64 // memory for decoded chunks, if not the default
	own       bool  // only of pbsfs
}

// rows are what is measured.
func rows(d *data, o options) []row {
	tree := func(args ...string) func(context.Context, *served) (float64, error) {
		return func(ctx context.Context, s *served) (float64, error) { return timed(ctx, s.tree, args...) }
	}
	image := func(args ...string) func(context.Context, *served) (float64, error) {
		return func(ctx context.Context, s *served) (float64, error) { return timed(ctx, s.image, args...) }
	}
	largest := func(ctx context.Context, s *served) (float64, error) {
		return timed(ctx, filepath.Join(s.tree, d.largest), "dd", "if={}", "of=/dev/null", "bs=1M", "status=none")
	}
	// They are looked for once, by the first sample: afterwards the kernel knows the tree,
	// until its caches are emptied for the next.
	small := sync.OnceValues(d.smallFiles)
	each := func(ctx context.Context, s *served) (float64, error) {
		paths, err := small()
		if err != nil {
			return 0, err
		}
		return readSmall(ctx, s.tree, paths)
	}
	// What decoding takes without a mount, on all processors.
	alone := func(command string, below string) func(context.Context, *served) (float64, error) {
		return func(ctx context.Context, s *served) (float64, error) {
			return timed(ctx, filepath.Join(s.inside, below), o.pbsfs, command, d.at(storeDir), "{}", "--config-dir", d.at("etc"), "--run-dir", d.at("run"))
		}
	}
	return []row{
		{name: "find", do: tree("find", "{}")},
		{name: "find -ls", do: tree("find", "{}", "-ls")},
		{name: "find -ls, later mount", do: tree("find", "{}", "-ls"), keepCache: true, own: true},
		{name: "verify all chunks, no mount", do: alone("verify", ""), own: true},
		{name: "tar", do: tree("sh", "-c", "tar -cf - -C {} . | dd of=/dev/null bs=1M status=none")},
		{name: "each small file", do: each},
		{name: "largest file", do: largest},
		{name: "decode the largest file, no mount", do: decoding(d, o), own: true},
		{name: "cat the largest file, no mount", do: alone("cat", d.largest), own: true},
		{name: "dd of the image", do: image("dd", "if={}", "of=/dev/null", "bs=1M", "status=none"), image: true},
		{name: "random 4 KiB", do: randomReads, rate: true, image: true},
		{name: "random 4 KiB, cache 1 GiB", do: randomReads, rate: true, image: true, cacheMiB: 1024, own: true},
	}
}

// timed runs a program, in whose arguments {} is the path, and returns how many
// seconds it took.
func timed(ctx context.Context, path string, args ...string) (float64, error) {
	args = append([]string(nil), args...)
	for i, a := range args {
		args[i] = strings.Replace(a, "{}", path, 1)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, out)
	err = errors.Join(err, cmd.Wait())
	return time.Since(start).Seconds(), err
}

// smallFile is the largest size of a file that readSmall reads.
const smallFile = 16 << 10

// smallFiles returns the paths of the small files, from the tree that was backed up.
func (d *data) smallFiles() (paths []string, err error) {
	err = filepath.WalkDir(d.at(treeDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() <= smallFile {
			paths = append(paths, path[len(d.at(treeDir)):])
		}
		return err
	})
	return paths, err
}

// readSmall looks up, opens, reads and closes files below root, one after the other, and
// returns how many seconds that took.
func readSmall(ctx context.Context, root string, paths []string) (float64, error) {
	buf := make([]byte, smallFile+1)
	start := time.Now()
	for _, path := range paths {
		f, err := os.Open(root + path)
		if err != nil {
			return 0, err
		}
		if _, err = f.Read(buf); errors.Is(err, io.EOF) { // an empty file
			err = nil
		}
		if err = errors.Join(err, f.Close(), context.Cause(ctx)); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds(), nil
}

// How random reads are done: for a time, in the part of the image that has data.
const (
	randomTime = 8 * time.Second
	randomSpan = 700 << 20
	randomSize = 4096
)

// randomReads returns how many reads are done in a second.
func randomReads(ctx context.Context, s *served) (float64, error) {
	f, err := os.Open(s.image)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	span := min(size, randomSpan) / randomSize
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, randomSize)
	start, n := time.Now(), 0
	for ; time.Since(start) < randomTime && ctx.Err() == nil; n++ {
		if _, err := f.ReadAt(buf, random.Int64N(span)*randomSize); err != nil {
			return 0, fmt.Errorf("read %d: %w", n, err)
		}
	}
	return float64(n) / time.Since(start).Seconds(), context.Cause(ctx)
}
