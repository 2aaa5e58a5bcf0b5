package served

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// A process that reads datastores without a mount leaves a file that says what it has
// open, and for whom, so that a refusal can name more than the process.

const (
	// maxReadings bounds the readings in a file, and problemsKept the problems of each
	// datastore.
	maxReadings  = 200
	problemsKept = 20
	// leaveEvery is how often the file is written at most.
	leaveEvery = 250 * time.Millisecond
)

// Reading is what a process has open without a mount.
type Reading struct {
	Datastore string      `json:"datastore"`
	Identity  identity.ID `json:"identity,omitzero"`
	Path      string      `json:"path"`
	By        string      `json:"by"` // for whom
	Since     time.Time   `json:"since"`
}

// readingsFile is the content of the file.
type readingsFile struct {
	procfs.ProcessMark
	Readings []Reading            `json:"readings"`
	Problems map[string][]Problem `json:"problems"` // by datastore
}

// Readings is what this process has open without mounts, and the problems that it met.
// It is safe for concurrent use. Its owner must Close it.
type Readings struct {
	file string
	mark procfs.ProcessMark
	log  *slog.Logger

	mu       sync.Mutex // guards what follows
	open     map[*Reading]struct{}
	problems map[string][]Problem
	causes   map[string]struct{}

	news chan struct{} // capacity 1
	stop chan struct{}
	done chan struct{}
}

func readingsDir(host hosts.Host) string { return filepath.Join(host.OwnRunDir(), "readings") }

// LeaveReadings begins to tell other commands what this process reads.
func LeaveReadings(host hosts.Host, log *slog.Logger) (*Readings, error) {
	self, err := procfs.MarkSelf()
	if err != nil {
		return nil, err
	}
	dir := readingsDir(host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &Readings{
		file: filepath.Join(dir, strconv.Itoa(self.PID)+".json"), mark: self, log: log,
		open: make(map[*Reading]struct{}), problems: make(map[string][]Problem), causes: make(map[string]struct{}),
		news: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go r.leave()
	return r, nil
}

// Begin says that something is open now. The caller must call the result when it no
// longer is.
func (r *Readings) Begin(now Reading) (end func()) {
	now.Since = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[&now] = struct{}{}
	r.notify()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, &now)
		r.notify()
	}
}

// Open returns what is open now.
func (r *Readings) Open() []Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Readings
}

// maxCauses bounds the causes that are remembered.
const maxCauses = 10_000

// Report adds a problem of a datastore, unless its cause was reported before.
func (r *Readings) Report(datastore, cause, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.causes[cause]; known {
		return
	}
	if len(r.causes) >= maxCauses { // better twice than never
		clear(r.causes)
	}
	r.causes[cause] = struct{}{}
	list := append(r.problems[datastore], Problem{Time: time.Now(), Text: text})
	r.problems[datastore] = list[max(0, len(list)-problemsKept):]
	r.notify()
	r.log.Error("cannot be served", "datastore", datastore, "error", text)
}

// notify wakes the writer. The caller holds mu.
func (r *Readings) notify() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// now returns the content of the file. The caller holds mu.
func (r *Readings) now() readingsFile {
	f := readingsFile{ProcessMark: r.mark, Readings: []Reading{}, Problems: make(map[string][]Problem, len(r.problems))}
	for reading := range r.open {
		f.Readings = append(f.Readings, *reading)
	}
	slices.SortFunc(f.Readings, func(a, b Reading) int { return a.Since.Compare(b.Since) })
	f.Readings = f.Readings[:min(len(f.Readings), maxReadings)]
	for name, list := range r.problems {
		f.Problems[name] = slices.Clone(list)
	}
	return f
}

// leave writes the file when something has changed.
func (r *Readings) leave() {
	defer close(r.done)
	defer func() { _ = os.Remove(r.file) }()
	for {
		select {
		case <-r.news:
		case <-r.stop:
			return
		}
		r.mu.Lock()
		now := r.now()
		r.mu.Unlock()
		text, err := json.Marshal(now)
		if err == nil {
			err = replace(r.file, text)
		}
		if err != nil {
			r.log.Warn("other commands do not see what is read here", "error", err)
		}
		select {
		case <-time.After(leaveEvery):
		case <-r.stop:
			return
		}
	}
}

// Close removes the file.
func (r *Readings) Close() {
	close(r.stop)
	<-r.done
}

// ReadersOf returns what running processes read of a datastore without a mount, by
// process, and the problems that they met.
func ReadersOf(host hosts.Host, t locate.Target) (map[procfs.ProcessMark][]Reading, []Problem, error) {
	entries, err := os.ReadDir(readingsDir(host))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	readers := make(map[procfs.ProcessMark][]Reading)
	var problems []Problem
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		f, err := readReadings(filepath.Join(readingsDir(host), e.Name()))
		if err != nil {
			continue // it is being written, or is not ours
		}
		for _, reading := range f.Readings[:min(len(f.Readings), maxReadings)] {
			if reading.of(t) {
				readers[f.ProcessMark] = append(readers[f.ProcessMark], reading)
			}
		}
		problems = append(problems, f.Problems[t.Name]...)
	}
	return readers, problems, nil
}

// of reports whether the reading is one of that datastore.
func (r Reading) of(t locate.Target) bool {
	own := modes.Present(r.Identity)
	if own.Same(t.ID) {
		return true
	}
	return !own.Differs(t.ID) && r.Datastore == t.Name
}

// readReadings reads the file of a process that runs, and removes that of one that has
// ended.
func readReadings(file string) (readingsFile, error) {
	var f readingsFile
	text, uid, err := readOwn(file)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, err
	}
	if f.Look() == procfs.Ended {
		if uid == os.Geteuid() {
			_ = os.Remove(file)
		}
		return f, fs.ErrNotExist
	}
	return f, nil
}
