package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// decodePart is how much of a file one goroutine decodes at a time.
const decodePart = 1 << 20

// decodeFile decodes and verifies a file of the datastore on all processors, without a
// mount and without a process that has to start, and returns how many seconds that took.
func (d *data) decodeFile(ctx context.Context, path string, cacheMiB int64) (took float64, err error) {
	host, err := d.host()
	if err != nil {
		return 0, err
	}
	ref, err := store.Open(ctx, store.Options{Name: storeDir, Path: d.at(storeDir), Host: host, CacheSize: cacheMiB << 20})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ref.Close()) }()
	err = ref.View(ctx, func(r *store.Reader) error {
		n, err := tree.New(ref).Walk(ctx, r, path, true)
		if err != nil {
			return err
		}
		f, err := n.Open(ctx, r)
		if err != nil {
			return err
		}
		start := time.Now()
		err = decodeAll(ctx, r, f)
		took = time.Since(start).Seconds()
		return err
	})
	return took, err
}

// decodeAll reads a file with several goroutines, each of which takes the next part.
func decodeAll(ctx context.Context, right store.CanRead, f tree.File) error {
	var next atomic.Int64
	all, ctx := errgroup.WithContext(ctx)
	for range 2 * runtime.GOMAXPROCS(0) {
		all.Go(func() error {
			buf := make([]byte, decodePart)
			for {
				off := next.Add(decodePart) - decodePart
				if off >= f.Size() {
					return nil
				}
				if _, err := f.ReadAt(ctx, right, buf, off); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
		})
	}
	return all.Wait()
}

// decoding is decodeFile for the largest file of a subject's tree.
func decoding(d *data, o options) func(ctx context.Context, s *served) (float64, error) {
	return func(ctx context.Context, s *served) (float64, error) {
		return d.decodeFile(ctx, filepath.Join(s.inside, d.largest), o.cacheSize)
	}
}
