package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/pattern"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Overwrite says what happens to what is there already.
type Overwrite uint8

// The values of Overwrite. A directory that is there is never removed unless it is empty.
const (
	Never   Overwrite = iota // it stays
	Older                    // it is replaced if that of the backup was changed later
	Changed                  // it is replaced if size, time or other metadata differ
	Always                   // it is replaced
)

var overwriteNames = [...]string{"never", "older", "changed", "always"}

// ParseOverwrite reads the name of a value.
func ParseOverwrite(text string) (Overwrite, error) {
	for i, name := range overwriteNames {
		if text == name {
			return Overwrite(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of never, older, changed, always", text)
}

func (o Overwrite) String() string { return overwriteNames[o] }

// Options say how to restore.
type Options struct {
	Overwrite Overwrite
	// IntoOthers allows a TARGET that has something in it.
	IntoOthers bool
	Verify     bool // read back, and compare
	DryRun     bool // write nothing
	// Salvage says that contents may have zeros where chunks are damaged, as the datastore
	// was opened.
	Salvage  bool
	Patterns pattern.List
	// OnProblem is told of each problem at once, from any goroutine.
	OnProblem func(Problem)
	// Progress is told how much was done since it was told last, now and then, from one
	// goroutine.
	Progress Progress
}

// Source is something that is to be restored.
type Source struct {
	Path string // where it is in the datastore, as it was asked for
	Name string // what it is called below TARGET; "" to restore its children there
	Node *tree.Node
}

// run is a restore that runs.
type run struct {
	ctx   context.Context // ends with the run; a run is one call
	stop  context.CancelCauseFunc
	right *store.Reader
	o     Options
	guard *Guard
	tally *tally

	dirs   dirs
	top    *dir
	mounts map[uint64]bool // those that may be written to; for the walker
	ours   bool            // TARGET was empty, or has our marker: what is there is ours
	mark   *marker
	links  links
	jobs   chan job

	noTmpfile, noEmptyPath atomic.Bool // what the file system or the kernel cannot do
}

// queueLength is how many objects wait for a writer.
const queueLength = 64

// writerCount returns how many writers there are.
func writerCount() int { return min(8, max(2, runtime.GOMAXPROCS(0))) }

// Tree restores files and directories below the directory TARGET, which is made if only
// it is missing. The right must hold the sources' snapshots. The report is that of what
// was done even if there is an error, which says why the restore has ended early; what
// could not be restored else is in the report alone.
func Tree(ctx context.Context, right *store.Reader, guard *Guard, sources []Source, path string, marker Marker, o Options) (*Report, error) {
	r := newRun(ctx, right, guard, o)
	defer r.stop(nil)
	shown := r.tally.show(ctx, o.Progress)
	err := r.tree(sources, path, marker)
	shown()
	report := r.tally.report()
	report.Resumed = r.mark != nil && r.mark.resumed
	return report, err
}

func newRun(ctx context.Context, right *store.Reader, guard *Guard, o Options) *run {
	r := &run{right: right, o: o, guard: guard, tally: &tally{onProblem: o.OnProblem}, jobs: make(chan job, queueLength)}
	r.ctx, r.stop = context.WithCancelCause(ctx)
	r.dirs.limit = 256
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		r.dirs.limit = int(min(256, files.Cur/4))
	}
	return r
}

func (r *run) tree(sources []Source, path string, m Marker) (err error) {
	into := len(sources) == 1 && sources[0].Name == "" // TARGET is the directory itself
	fd, err := r.openTarget(path, into)
	if err != nil {
		return err
	}
	r.top = &dir{fd: fd, ready: true, existed: true, absent: fd < 0}
	r.top.left.Store(1)
	if into {
		r.top.node = sources[0].Node
	}
	defer r.dirs.close(r.top)
	if fd >= 0 {
		if err := r.enterTarget(fd, path, m, sources); err != nil {
			return err
		}
		defer func() { r.mark.close() }()
	}
	if err := r.writeAll(sources); err != nil {
		return err
	}
	return r.finishTarget()
}

// enterTarget looks at the directory TARGET.
func (r *run) enterTarget(fd int, path string, m Marker, sources []Source) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("TARGET %s: %w", path, err)
	}
	r.top.id, r.top.acls = identityOf(&st), hasDefaultACL(fd)
	mount, err := mountOf(fd)
	if err != nil {
		return fmt.Errorf("TARGET %s: %w", path, err)
	}
	r.mounts = map[uint64]bool{mount: true}
	if err := r.enoughSpace(fd, path, sources); err != nil {
		return err
	}
	if r.mark, err = r.begin(fd, path, m); err != nil {
		return err
	}
	r.ours = r.mark != nil
	if !r.o.DryRun && !slices.ContainsFunc(sources, func(s Source) bool { return isTemporary(s.Name) }) {
		r.clean(r.top, fd)
	}
	return nil
}

// enoughSpace refuses files that cannot fit. What a tree needs is not known before it was
// walked.
func (r *run) enoughSpace(fd int, path string, sources []Source) error {
	need := int64(0)
	for _, s := range sources {
		if s.Node.Type() == unix.S_IFREG {
			need += s.Node.Attr().Blocks * 512
		}
	}
	return spaceFor(fd, path, need)
}

// spaceFor refuses need bytes if the file system has less room.
func spaceFor(fd int, path string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || need == 0 {
		return nil //nolint:nilerr // then it shows when it is written
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("TARGET %s: %d bytes are needed, and %d are free: %w", path, need, free, unix.ENOSPC)
	}
	return nil
}

// writeAll walks, and has the writers write.
func (r *run) writeAll(sources []Source) error {
	var writers sync.WaitGroup
	for range writerCount() {
		writers.Go(r.write)
	}
	w := &walker{run: r}
	err := w.walk(sources)
	if err != nil {
		r.stop(err)
	}
	close(r.jobs)
	writers.Wait()
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.flagLinks()
	return nil
}

// finishTarget removes the marker and gives TARGET its own metadata, in this order: the
// marker's removal changes the time of TARGET.
func (r *run) finishTarget() error {
	if r.top.absent || r.o.DryRun {
		return nil
	}
	fd, err := r.dirs.use(r.top)
	if err != nil {
		return err
	}
	defer r.dirs.done(r.top)
	// Without the marker everything is there, even after a loss of power.
	if err := again(func() error { return unix.Syncfs(fd) }); err != nil {
		return target("writing to the disk", err)
	}
	if err := r.mark.remove(fd); err != nil {
		return err
	}
	if r.top.node == nil || !r.ours && r.o.Overwrite == Never {
		return nil
	}
	r.tally.made(unix.S_IFDIR)
	if err := r.finish(r.top); err != nil {
		r.failed("", err)
	}
	return nil
}

// failed notes that an object could not be restored, or stops everything.
func (r *run) failed(path string, err error) {
	if err == nil || r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	if stops(err) {
		r.stop(fmt.Errorf("stopped at %q: %w", path, err))
		return
	}
	r.tally.problem(path, err)
}

// temporaryPrefix begins the names of files that are not complete.
const temporaryPrefix = ".pbsfs-restore."

// randomDigits is how many hexadecimal digits follow.
const randomDigits = 16

// temporary returns a new name for a file that is not complete.
func temporary() string {
	var b [randomDigits / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return temporaryPrefix + hex.EncodeToString(b[:])
}

// isTemporary reports whether a name has exactly the form of those of temporary.
func isTemporary(name string) bool {
	if len(name) != len(temporaryPrefix)+randomDigits || name[:len(temporaryPrefix)] != temporaryPrefix {
		return false
	}
	_, err := hex.DecodeString(name[len(temporaryPrefix):])
	return err == nil
}
