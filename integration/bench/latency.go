package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// latencyTime is how long each latency is measured.
const latencyTime = 5 * time.Second

// measureLatency measures how long small requests take while another process
// reads the image from its beginning to its end, over and over.
func measureLatency(ctx context.Context, d *data, o options) (err error) {
	s, err := d.mountPbsfs(ctx, o.pbsfs, "v1", o, row{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	file := filepath.Join(s.tree, d.largest)
	direct, err := os.OpenFile(file, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer direct.Close()
	buf, err := unix.Mmap(-1, 0, randomSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	read := func() error { // past the kernel's caches, from the chunk that is in ours
		_, err := direct.ReadAt(buf, 0)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	}
	var st unix.Stat_t
	snapshot := filepath.Dir(s.tree)
	requests := []struct {
		name string
		do   func() error
	}{
		{"stat of a file in an archive", func() error { return unix.Lstat(file, &st) }},
		{"stat of a snapshot", func() error { return unix.Stat(snapshot, &st) }},
		{"read of 4 KiB in a cached chunk", read},
	}
	for _, load := range []bool{false, true} {
		if load {
			stop := streamAgain(ctx, s.image)
			defer stop()
		}
		for _, r := range requests {
			p50, p99, most, err := latencies(ctx, r.do)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			fmt.Printf("latency, image streamed: %-5v  %-32s  p50 %8s  p99 %8s  max %8s\n", load, r.name, p50, p99, most)
		}
	}
	return nil
}

// streamAgain reads a file over and over, in a process of its own, until stop.
func streamAgain(ctx context.Context, path string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = exec.CommandContext(ctx, "dd", "if="+path, "of=/dev/null", "bs=1M", "status=none", "iflag=direct").Run()
		}
	}()
	return func() { cancel(); <-done }
}

// latencies measures requests one after the other.
func latencies(ctx context.Context, do func() error) (p50, p99, most time.Duration, err error) {
	if err := do(); err != nil { // the first one fills caches
		return 0, 0, 0, err
	}
	var took []time.Duration
	for start := time.Now(); time.Since(start) < latencyTime && ctx.Err() == nil; {
		begin := time.Now()
		if err := do(); err != nil {
			return 0, 0, 0, err
		}
		took = append(took, time.Since(begin))
		time.Sleep(200 * time.Microsecond) // a request now and then, not a load
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], took[len(took)-1], context.Cause(ctx)
}
