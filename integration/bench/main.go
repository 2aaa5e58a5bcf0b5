package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are what the command line says.
type options struct {
	pbsfs, base string
	official    string
	from        string
	scale       float64
	rounds      int
	dir         string
	only, rows  string
	json, bench string
	growth      string
	floor       string
	cacheSize   int64
}

func main() {
	var o options
	flag.StringVar(&o.pbsfs, "pbsfs", "bin/pbsfs", "the program that is measured")
	flag.StringVar(&o.base, "base", "", "another build of it, to compare with")
	flag.StringVar(&o.official, "official", "", "the official client, to compare with; it finds its server by PBS_REPOSITORY")
	flag.StringVar(&o.from, "from", "/usr", "where the files are taken from")
	flag.Float64Var(&o.scale, "scale", 0.1, "size of the data; 1 is 75,000 entries of 1.4 GB, and an image of 4 GiB")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each row is measured")
	flag.StringVar(&o.dir, "dir", "", "where the data is made (default: a new directory in /var/tmp, which is removed)")
	flag.StringVar(&o.only, "only", "", "measure subjects whose name contains this")
	flag.StringVar(&o.rows, "rows", "", "measure rows whose name contains this")
	flag.StringVar(&o.json, "json", "", "write every sample to this file")
	flag.StringVar(&o.bench, "bench", "", "write samples to FILE.new and FILE.old, for benchstat")
	flag.StringVar(&o.growth, "growth", "", "instead, measure how time and memory grow with the size, and plot it to this SVG file")
	flag.Int64Var(&o.cacheSize, "cache-mib", 512, "memory for decoded chunks, in MiB")
	flag.StringVar(&o.floor, "serve-floor", "", "instead, serve this tree from memory at the mount point that follows (the subject \"floor\" does)")
	flag.Parse()
	if o.floor != "" {
		if err := serveFloor(o.floor, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	for _, p := range []*string{&o.pbsfs, &o.base} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return err
			}
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("/var/tmp", "pbsfs-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, removeAll(o.dir)) }()
	}
	if o.growth != "" {
		return measureGrowth(ctx, o)
	}
	if o.official, err = officialPath(o.official); err != nil {
		return err
	}
	data, err := makeData(ctx, o)
	if err != nil {
		return err
	}
	if o.official != "" {
		if err := data.makeOfficial(ctx, o); err != nil {
			return err
		}
	}
	all := subjects(data, o)
	t := &table{}
	for _, r := range rows(data, o) {
		if !strings.Contains(r.name, o.rows) {
			continue
		}
		if err := t.measure(ctx, r, all, o); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", r.name, err), t.write(o)) // what there is
		}
	}
	if strings.Contains("latency", o.rows) {
		if err := measureLatency(ctx, data, o); err != nil {
			return err
		}
	}
	return t.write(o)
}

// removeAll removes a directory, and the directories of a datastore in the order
// in which they were made, which some file systems make several times faster.
func removeAll(dir string) error {
	for i := range 1 << 16 {
		_ = os.RemoveAll(filepath.Join(dir, storeDir, ".chunks", fmt.Sprintf("%04x", i)))
	}
	return os.RemoveAll(dir)
}
