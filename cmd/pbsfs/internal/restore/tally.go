package restore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
)

// Counts are numbers of objects, by what they are.
type Counts struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	HardLinks   int64 `json:"hard_links"` // further names of files
	Devices     int64 `json:"devices"`
	Fifos       int64 `json:"fifos"`
	Sockets     int64 `json:"sockets"`
}

// Problem is something that was not restored, or not as it is in the backup.
type Problem struct {
	Path string `json:"path"` // below TARGET; "." is TARGET itself
	// Kind is "damaged", "key", "failed", "differs" or "zeros".
	Kind  string `json:"kind"`
	Error string `json:"error"`
}

// The kinds of problems.
const (
	Damaged = "damaged"
	NeedKey = "key"
	Failed  = "failed"
	Differs = "differs"
	Zeros   = "zeros" // restored, with zeros where chunks are damaged
)

// Lack is something that could not be restored of a number of objects, for one cause.
type Lack struct {
	What  string `json:"what"`
	Why   string `json:"why"`
	Count int64  `json:"count"`
	// Expected says that this is no failure: only root gives files to others.
	Expected bool `json:"expected,omitempty"`
}

// Report is what was done.
type Report struct {
	Restored Counts `json:"restored"`
	Bytes    int64  `json:"bytes"`    // of contents, without those of files that were there
	Kept     int64  `json:"kept"`     // objects that were there and stay as they are
	Replaced int64  `json:"replaced"` // objects that were there, of those that are restored
	LeftOut  int64  `json:"left_out"` // objects that the patterns leave out, without what is below
	Verified int64  `json:"verified"` // objects that were read back
	Resumed  bool   `json:"resumed"`  // went on with one that had not finished

	Damaged  int64     `json:"damaged"`
	NeedKey  int64     `json:"key_missing"`
	Failed   int64     `json:"failed"`
	Differs  int64     `json:"differs"`
	Zeros    int64     `json:"zeros"`    // files that are restored with zeros in them
	Problems []Problem `json:"problems"` // the first 100,000
	Lacks    []Lack    `json:"lacks"`
}

// maxProblems is how many problems are kept.
const maxProblems = 100_000

// Err returns nil if everything was restored that this user can restore. Otherwise it
// matches [store.ErrCorrupt] or [store.ErrKeyNeeded] if that is the cause.
func (r *Report) Err() error {
	missing := r.Damaged + r.NeedKey + r.Failed
	switch {
	case r.Damaged > 0:
		return fmt.Errorf("%w: %s", store.ErrCorrupt, r.missing(missing))
	case r.Zeros > 0:
		return fmt.Errorf("%w: %s", store.ErrCorrupt, plural(r.Zeros, "file has zeros where data is lost; it is named above", "files have zeros where data is lost; they are named above"))
	case r.NeedKey > 0:
		return fmt.Errorf("%w: %s", store.ErrKeyNeeded, r.missing(missing))
	case r.Failed > 0:
		return errors.New(r.missing(missing))
	case r.Differs > 0:
		return fmt.Errorf("%s from the backup", plural(r.Differs, "object differs", "objects differ"))
	}
	for _, l := range r.Lacks {
		if !l.Expected {
			return fmt.Errorf("not everything could be restored: %s: %s", l.What, l.Why)
		}
	}
	return nil
}

func (r *Report) missing(n int64) string {
	return plural(n, "object was not restored; it is named above", "objects were not restored; they are named above")
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// tally counts while a restore runs. It is safe for concurrent use.
type tally struct {
	files, directories, symlinks, hardLinks, devices, fifos, sockets atomic.Int64
	bytes, kept, replaced, leftOut, verified                         atomic.Int64
	// done counts all objects and bytes that are dealt with, for progress.
	done, doneBytes atomic.Int64

	onProblem func(Problem)

	mu       sync.Mutex
	damaged  int64
	needKey  int64
	failed   int64
	differ   int64
	zeroed   int64
	problems []Problem
	lacks    map[lackKey]int64
}

type lackKey struct {
	what, why string
	expected  bool
}

// problem notes that the object at path was not restored.
func (t *tally) problem(path string, err error) {
	kind := Failed
	switch {
	case errors.Is(err, store.ErrKeyNeeded):
		kind = NeedKey
	case errors.Is(err, store.ErrCorrupt):
		kind = Damaged
	}
	t.note(Problem{cmp.Or(path, "."), kind, err.Error()})
}

// differs notes how an object differs from the backup.
func (t *tally) differs(path, how string) { t.note(Problem{cmp.Or(path, "."), Differs, how}) }

func (t *tally) note(p Problem) {
	t.mu.Lock()
	switch p.Kind {
	case Damaged:
		t.damaged++
	case NeedKey:
		t.needKey++
	case Failed:
		t.failed++
	case Differs:
		t.differ++
	case Zeros:
		t.zeroed++
	}
	if len(t.problems) < maxProblems {
		t.problems = append(t.problems, p)
	}
	t.mu.Unlock()
	if t.onProblem != nil {
		t.onProblem(p)
	}
}

// lack notes that something could not be restored of an object.
func (t *tally) lack(what, why string, expected bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lacks == nil {
		t.lacks = make(map[lackKey]int64)
	}
	t.lacks[lackKey{what, why, expected}]++
}

// made counts an object that was restored.
func (t *tally) made(typ uint32) {
	switch typ {
	case unix.S_IFREG:
		t.files.Add(1)
	case unix.S_IFDIR:
		t.directories.Add(1)
	case unix.S_IFLNK:
		t.symlinks.Add(1)
	case unix.S_IFCHR, unix.S_IFBLK:
		t.devices.Add(1)
	case unix.S_IFIFO:
		t.fifos.Add(1)
	case unix.S_IFSOCK:
		t.sockets.Add(1)
	}
}

// report returns what was counted so far.
func (t *tally) report() *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Report{
		Restored: Counts{
			t.files.Load(), t.directories.Load(), t.symlinks.Load(), t.hardLinks.Load(),
			t.devices.Load(), t.fifos.Load(), t.sockets.Load(),
		},
		Bytes: t.bytes.Load(), Kept: t.kept.Load(), Replaced: t.replaced.Load(), LeftOut: t.leftOut.Load(), Verified: t.verified.Load(),
		Damaged: t.damaged, NeedKey: t.needKey, Failed: t.failed, Differs: t.differ, Zeros: t.zeroed,
		Problems: append([]Problem{}, t.problems...), Lacks: []Lack{},
	}
	for k, n := range t.lacks {
		r.Lacks = append(r.Lacks, Lack{k.what, k.why, n, k.expected})
	}
	slices.SortFunc(r.Lacks, func(a, b Lack) int { return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Why, b.Why)) })
	return r
}
