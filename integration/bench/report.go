package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// table holds every sample.
type table struct {
	Cells []*cell `json:"cells"`
}

// cell is one subject in one row.
type cell struct {
	Row     string    `json:"row"`
	Subject string    `json:"subject"`
	Rate    bool      `json:"rate"`    // samples are per second; else they are seconds
	Samples []float64 `json:"samples"` // in the order of the rounds
	CPU     []float64 `json:"cpu_s"`   // of the serving process
	PeakMiB float64   `json:"peak_mib"`
}

// measure fills a row: all subjects take turns.
func (t *table) measure(ctx context.Context, r row, all []subject, o options) error {
	var subjects []subject
	for _, s := range all {
		if !r.own || s.ours() {
			subjects = append(subjects, s)
		}
	}
	// The image is the same in both formats, restic's is read through its tree, and that in
	// memory has none.
	if r.image {
		subjects = slices.DeleteFunc(subjects, func(s subject) bool { return strings.Contains(s.name, "-split") || s.name == floorName })
	}
	cells := make([]*cell, len(subjects))
	for i, s := range subjects {
		cells[i] = &cell{Row: r.name, Subject: s.name, Rate: r.rate}
	}
	if r.keepCache { // a mount that leaves something to be found
		for _, s := range subjects {
			if err := (&cell{}).sample(ctx, r, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	failed := make(map[int]bool)
	for round := range o.rounds {
		for i := range subjects {
			k := (i + round) % len(subjects)
			if failed[k] {
				continue
			}
			err := cells[k].sample(ctx, r, subjects[k])
			if err != nil && (subjects[k].ours() || ctx.Err() != nil) {
				return fmt.Errorf("%s: %w", subjects[k].name, err)
			}
			if failed[k] = err != nil; failed[k] {
				fmt.Fprintf(os.Stderr, "%s: %s: left out: %v\n", r.name, subjects[k].name, err)
			}
		}
	}
	for k, c := range cells {
		if !failed[k] {
			t.Cells = append(t.Cells, c)
		}
	}
	fmt.Fprintf(os.Stderr, "%s: done\n", r.name)
	return nil
}

// sample measures once, from a new mount and, for root, with nothing in the
// kernel's caches.
func (c *cell) sample(ctx context.Context, r row, s subject) (err error) {
	at, err := s.mount(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.end()) }()
	dropCaches()
	before := cpuSeconds(at.pid)
	v, err := r.do(ctx, at)
	if err != nil {
		return err
	}
	c.Samples = append(c.Samples, v)
	c.CPU = append(c.CPU, cpuSeconds(at.pid)-before)
	c.PeakMiB = max(c.PeakMiB, peakMiB(at.pid))
	return nil
}

// dropCaches empties the kernel's caches of pages, names and inodes, where we
// may.
func dropCaches() {
	unix.Sync() // what is not written cannot be dropped
	_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// cpuSeconds returns the processor time that a process has used, 0 if there is
// none to ask.
func cpuSeconds(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// peakMiB returns the most memory that a process has had.
func peakMiB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// write prints the table, and writes the files that were asked for.
func (t *table) write(o options) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nrow\tsubject\tmedian\tmin\tmax\tx first\tx floor\tserver CPU s\tpeak MiB\t\n")
	first, floor := map[string]float64{}, map[string]float64{}
	for _, c := range t.Cells {
		if c.Subject == floorName {
			floor[c.Row] = median(c.Samples)
		}
	}
	for _, c := range t.Cells {
		m, unit := median(c.Samples), " s"
		if c.Rate {
			unit = "/s"
		}
		if _, ok := first[c.Row]; !ok {
			first[c.Row] = m
		}
		fmt.Fprintf(w, "%s\t%s\t%.4g%s\t%.4g\t%.4g\t%.2f\t%s\t%.2f\t%.0f\t\n",
			c.Row, c.Subject, m, unit, slices.Min(c.Samples), slices.Max(c.Samples), m/first[c.Row], ratio(m, floor[c.Row]), median(c.CPU), c.PeakMiB)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return errors.Join(t.writeJSON(o), t.writeBench(o))
}

// ratio returns how many times as much as another value one is, "-" if there is no other.
func ratio(v, of float64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v/of)
}

func (t *table) writeJSON(o options) error {
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(struct {
		Scale  float64 `json:"scale"`
		Rounds int     `json:"rounds"`
		CPUs   int     `json:"cpus"`
		*table
	}{o.scale, o.rounds, runtime.NumCPU(), t}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

// writeBench writes what benchstat reads: one file for each build, in which a row
// has the same name.
func (t *table) writeBench(o options) error {
	if o.bench == "" {
		return nil
	}
	var builds [2]strings.Builder
	for _, c := range t.Cells {
		subject, isBase := strings.CutSuffix(c.Subject, baseSuffix)
		b := &builds[0]
		if isBase {
			b = &builds[1]
		}
		name := strings.NewReplacer(" ", "_", ",", "").Replace(c.Row + "/" + subject)
		for i, v := range c.Samples {
			if c.Rate {
				v = 1 / v
			}
			fmt.Fprintf(b, "Benchmark%s 1 %.0f ns/op %.0f server-ns/op\n", name, v*1e9, c.CPU[i]*1e9)
		}
	}
	return errors.Join(
		os.WriteFile(o.bench+".new", []byte(builds[0].String()), 0o644),
		os.WriteFile(o.bench+".old", []byte(builds[1].String()), 0o644),
	)
}
