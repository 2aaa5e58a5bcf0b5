package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/export"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/restore"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// shownProblems is how many problems are named; the rest is counted.
const shownProblems = 100

// restoreOutput shows how a restore goes, and what it has done.
type restoreOutput struct {
	a     *app
	j     *restoreJob
	begun time.Time

	mu    sync.Mutex // guards what follows; a leaf lock but for standard error
	show  *progress
	shown int
}

func (a *app) newRestoreOutput(j *restoreJob) *restoreOutput {
	return &restoreOutput{a: a, j: j, begun: time.Now(), show: newProgress(a.stderr)}
}

// problem shows a problem, as long as there are not too many.
func (o *restoreOutput) problem(p restore.Problem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.shown++; {
	case o.shown <= shownProblems:
		o.show.line(fmt.Sprintf("%s: %s: %s", p.Kind, text.Path(p.Path), text.Printable(p.Error)))
	case o.shown == shownProblems+1:
		o.show.line("further problems are only counted; --json lists them")
	}
}

func (o *restoreOutput) progress(files, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.show.add(files, bytes)
}

func (o *restoreOutput) line(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.show.line(fmt.Sprintf(format, args...))
}

// run restores.
func (o *restoreOutput) run(ctx context.Context, d *opened, sources []restore.Source, r *store.Reader, guard *restore.Guard) (*restore.Report, error) {
	j, total := o.j, int64(-1)
	if len(sources) == 1 && sources[0].Node.Type() == unix.S_IFREG {
		total = sources[0].Node.Attr().Size
	}
	if j.to != "" {
		return o.image(ctx, d, sources[0], r, guard, total)
	}
	j.how.OnProblem, j.how.Progress = o.problem, o.progress
	o.show.begin(j.target, total)
	return restore.Tree(ctx, r, guard, sources, j.target, j.marker(d, sources), j.how)
}

// image writes one image to a device, or to a new file.
func (o *restoreOutput) image(ctx context.Context, d *opened, s restore.Source, r *store.Reader, guard *restore.Guard, total int64) (*restore.Report, error) {
	j := o.j
	if s.Node.Type() != unix.S_IFREG {
		return nil, notBegun(fmt.Errorf("/%s: it is no image and no file; --to writes one of those", s.Path))
	}
	if err := s.Node.Broken(); err != nil {
		return nil, notBegun(atPath(s.Path, err))
	}
	if restore.IsDevice(j.to) {
		return o.device(ctx, s, r, guard, total)
	}
	if j.yes || j.targetIsZero {
		return nil, notBegun(usage.Errorf("--to %s: it is no block device, which --yes and --target-is-zero are for", j.to))
	}
	if err := restore.IsFree(j.to); err != nil {
		return nil, notBegun(err)
	}
	s.Name = filepath.Base(j.to)
	j.how.OnProblem, j.how.Progress, j.how.IntoOthers = o.problem, o.progress, true
	o.show.begin(j.to, total)
	return restore.Tree(ctx, r, guard, []restore.Source{s}, filepath.Dir(j.to), j.marker(d, nil), j.how)
}

func notBegun(err error) error { return fmt.Errorf("%w%w", err, silent{errNotBegun}) }

// silent is an error that is matched and not shown.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// device writes an image to a block device.
func (o *restoreOutput) device(ctx context.Context, s restore.Source, r *store.Reader, guard *restore.Guard, total int64) (*restore.Report, error) {
	j := o.j
	dev, err := restore.OpenDevice(j.to, guard)
	if err != nil {
		return nil, notBegun(err)
	}
	defer dev.Close()
	if err := dev.TooSmall(s.Node); err != nil {
		return nil, notBegun(err)
	}
	if !j.yes && !j.dryRun {
		if err := o.a.confirm(ctx, j.to, dev.Size()); err != nil {
			return nil, notBegun(err)
		}
	}
	o.show.begin(j.to, total)
	return dev.Write(ctx, r, s.Node, restore.DeviceOptions{IsZero: j.targetIsZero, Verify: j.verify, DryRun: j.dryRun, Progress: o.progress})
}

// confirm asks whether a device may be overwritten.
func (a *app) confirm(ctx context.Context, device string, size int64) error {
	if !isTerminal(a.stdin) {
		return usage.Errorf("--to %s: what is on the device would be lost; --yes says so where nobody can be asked", device)
	}
	fmt.Fprintf(a.stderr, "All that is on %s (%s) will be lost. Type its name to go on: ", text.Printable(device), sizeText(size))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.stdin).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case got := <-answer:
		if got == device || got == filepath.Base(device) {
			return nil
		}
		return fmt.Errorf("%s was not written to", device)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end shows what was done, and returns what the command is to end with.
func (o *restoreOutput) end(report *restore.Report, failure error) error {
	o.show.end("")
	err := failure
	if report == nil {
		return err
	}
	if err == nil {
		err = report.Err()
	}
	if failure == nil {
		o.summary(report)
	}
	if !o.j.json {
		return err
	}
	return errors.Join(err, o.json(report, failure))
}

// restoreJSON is what restore --json prints.
type restoreJSON struct {
	Target string   `json:"target"`
	Paths  []string `json:"paths"`
	DryRun bool     `json:"dry_run"`
	// Finished is false if the restore was stopped, and Error then says why.
	Finished bool    `json:"finished"`
	Error    string  `json:"error,omitempty"`
	Seconds  float64 `json:"seconds"`
	*restore.Report
}

func (o *restoreOutput) json(report *restore.Report, failure error) error {
	out := restoreJSON{
		Target: o.j.target, Paths: o.j.paths, DryRun: o.j.dryRun, Finished: failure == nil,
		Seconds: time.Since(o.begun).Round(time.Millisecond).Seconds(), Report: report,
	}
	if o.j.to != "" {
		out.Target = o.j.to
	}
	if report.Problems == nil {
		report.Problems = []restore.Problem{}
	}
	if failure != nil {
		out.Error = oneLine(failure.Error())
	}
	return o.a.json(out)
}

// summary says in lines for people what was done.
func (o *restoreOutput) summary(r *restore.Report) {
	did := "restored "
	if o.j.dryRun {
		did = "would restore "
	}
	if r.Resumed {
		o.line("went on with a restore that had not finished")
	}
	c := r.Restored
	line := did + counted(c.Files, "file", "files") + " (" + sizeText(r.Bytes) + ")"
	for _, part := range []struct {
		n         int64
		one, many string
	}{
		{c.Directories, "directory", "directories"},
		{c.Symlinks, "link", "links"},
		{c.HardLinks, "hard link", "hard links"},
		{c.Devices + c.Fifos + c.Sockets, "special file", "special files"},
	} {
		if part.n > 0 {
			line += ", " + counted(part.n, part.one, part.many)
		}
	}
	if took := time.Since(o.begun); took >= time.Second {
		line += fmt.Sprintf(", in %s", took.Round(100*time.Millisecond))
	}
	o.line("%s", line)
	for _, part := range []struct {
		n    int64
		what string
	}{
		{r.Kept, "were there and stay as they are"},
		{r.Replaced, "of those were there and are replaced"},
		{r.LeftOut, "were left out by patterns"},
		{r.Verified, "were read back"},
	} {
		if part.n > 0 {
			o.line("%d %s", part.n, part.what)
		}
	}
	for _, l := range r.Lacks {
		o.line("not restored: %s of %s: %s", l.What, counted(l.Count, "object", "objects"), text.Printable(l.Why))
	}
}

// restoreToStdout writes a file, or a directory as tar, to the standard output.
func (a *app) restoreToStdout(ctx context.Context, d *opened, p string) error {
	if isTerminal(a.stdout) {
		return usage.Errorf("restore: the standard output is a terminal; send it to a file or a program")
	}
	sources, r, err := d.sources(ctx, []string{p})
	if err != nil {
		return err
	}
	defer r.Release()
	var z zeros
	if n := sources[0].Node; n.IsDir() {
		err = a.writeTar(ctx, d, r, sources[0], p, &z)
	} else {
		var f tree.File
		f, err = a.copyOut(ctx, r, n)
		err = errors.Join(err, z.add(a, p, f))
	}
	if err != nil {
		return atPath(p, err)
	}
	return z.err()
}

func (a *app) writeTar(ctx context.Context, d *opened, r *store.Reader, s restore.Source, p string, z *zeros) error {
	if err := s.Node.Broken(); err != nil {
		return err
	}
	name := path.Base(path.Clean("/" + p))
	if name == "/" {
		name = d.ref.Name()
	}
	out := bufio.NewWriterSize(a.stdout, 1<<20)
	var told error
	left, err := export.Tar(ctx, r, s.Node, name, out, func(path string, ranges []store.Range) {
		told = errors.Join(told, z.name(a, path, ranges))
	})
	if err := errors.Join(err, told, out.Flush()); err != nil {
		return err
	}
	if left.Sockets > 0 {
		fmt.Fprintf(a.stderr, "left out: %s, for which a tar has no type\n", counted(left.Sockets, "socket", "sockets"))
	}
	if left.Projects > 0 {
		fmt.Fprintf(a.stderr, "left out: the quota projects of %s, for which a tar has no place\n", counted(left.Projects, "object", "objects"))
	}
	return nil
}
