package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/places"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// Source knows what every datastore.cfg that binds us says of one datastore. It reads
// the files only when they have changed.
type Source struct {
	host  hosts.Host
	store string
	Path  string // where the datastore lies; "" for the place in its entry
	// lenient says that a file which may not be read holds no mode. It is only for
	// callers that do not count operations either.
	lenient bool
	watch   *mounts.MountWatch // nil: the mount table is compared

	// mu guards the memory of the last reading; it is never held across I/O
	// and nothing is locked under it.
	mu     sync.Mutex
	files  []Reading   // one for each file of host.Configs()
	own    places.Spot // where the datastore was last seen
	listed bool        // an entry has meant the datastore at some time
	last   Binding
	epoch  uint64 // the epoch of the mounts when last was made
	valid  bool   // last belongs to the files and the epoch
}

// Reading is the result of reading one file.
type Reading struct {
	stamp   statefile.Stamp
	Config  *cfg.Config
	settled bool // the stamp shows every change
	hidden  bool // the file may not be read
}

// NewSource makes the source for the datastore that datastore.cfg calls store and that
// lies at path. If path is "", it lies where its entry says. With lenient, a file that
// may not be read holds no mode. The caller must Close the source.
func NewSource(host hosts.Host, store, path string, lenient bool) *Source {
	return &Source{
		host: host, store: store, Path: path, lenient: lenient,
		files: make([]Reading, len(host.Configs())), own: places.Spot{Dir: path},
	}
}

// WatchMounts starts a watch, which shows at little cost that the mounts have not
// changed.
func (m *Source) WatchMounts() { m.watch, _ = mounts.WatchMounts() }

// Close ends the watch of the mounts.
func (m *Source) Close() {
	if m.watch != nil {
		_ = m.watch.Close()
	}
}

// mountsNow returns a number that changes with the mount table.
func (m *Source) mountsNow() uint64 {
	if m.watch == nil {
		return m.host.Places().Refresh()
	}
	if changed, err := m.watch.Wait(0); changed || err != nil {
		return m.host.Places().Changed()
	}
	return m.host.Places().Now()
}

// Current returns the present binding; file names what could not be read. Current may
// look at places of datastores, so the caller must not hold a lock.
func (m *Source) Current(ctx context.Context) (b Binding, file string, err error) {
	epoch := m.mountsNow()
	if b, ok := m.unchanged(epoch); ok {
		return b, "", nil
	}
	files, _, file, err := m.read(false)
	if err != nil {
		return Binding{}, file, err
	}
	m.look(ctx, files)
	return m.bind(files, epoch), "", nil
}

// unchanged returns the last binding if it still holds.
func (m *Source) unchanged(epoch uint64) (Binding, bool) {
	m.mu.Lock()
	b, files, valid := m.last, m.files, m.valid && m.epoch == epoch
	m.mu.Unlock()
	for i := 0; valid && i < len(files); i++ {
		now, err := statefile.StampOf(m.host.Configs()[i].File())
		valid = err == nil && now == files[i].stamp && !files[i].hidden
	}
	return b, valid
}

// Prepare looks at the places that [Source.Fresh] has to know.
func (m *Source) Prepare(ctx context.Context) (file string, err error) {
	m.mountsNow()
	files, _, file, err := m.read(false)
	if err != nil {
		return file, err
	}
	m.look(ctx, files)
	return "", nil
}

// Counted returns the names under which operations are published, as of the last
// reading.
func (m *Source) Counted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.counted(m.store)
}

// Unsure returns the entries that did not answer at the last reading.
func (m *Source) Unsure() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.Unsure
}

// Identity returns the identity of the datastore when it was last seen.
func (m *Source) Identity() identity.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own.ID
}

// LastRead returns the contents of the files when they were last read.
func (m *Source) LastRead() []Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files
}

// ErrUnseen says that an entry names a place that has not been looked at yet.
var ErrUnseen = errors.New("the places of the datastores have changed meanwhile")

// Fresh reads every file anew, for a caller that holds its lock. It looks at nothing
// else: if a place has not been looked at, the error is ErrUnseen, unless anyhow is
// set.
func (m *Source) Fresh(anyhow bool) (b Binding, file string, err error) {
	epoch := m.host.Places().Now()
	files, _, file, err := m.read(true)
	if err != nil {
		return Binding{}, file, err
	}
	if !anyhow && !m.seen(files) {
		return Binding{}, "", ErrUnseen
	}
	return m.bind(files, epoch), "", nil
}

// read returns the contents of the files. It reads those that have changed, or, with
// anew, all. same says that nothing has changed.
func (m *Source) read(anew bool) (files []Reading, same bool, file string, err error) {
	m.mu.Lock()
	known := m.files
	m.mu.Unlock()
	files, same = make([]Reading, len(known)), true
	for i, place := range m.host.Configs() {
		if files[i], err = m.reread(known[i], place.File(), anew); err != nil {
			return nil, false, place.File(), err
		}
		same = same && files[i].Config == known[i].Config
	}
	if !same {
		m.mu.Lock()
		m.files, m.valid = files, false
		m.mu.Unlock()
	}
	return files, same, "", nil
}

func (m *Source) reread(known Reading, path string, anew bool) (Reading, error) {
	if known.Config != nil && known.settled && !anew {
		now, err := statefile.StampOf(path)
		if err == nil && known.stamp == now {
			return known, nil
		}
		if err != nil && !m.lenient {
			return Reading{}, err
		}
	}
	data, at, err := ReadConfig(path)
	if err != nil && m.lenient && errors.Is(err, os.ErrPermission) {
		return Reading{Config: &cfg.Config{}, hidden: true}, nil
	}
	if err != nil {
		return Reading{}, err
	}
	return Reading{stamp: at, Config: cfg.ParseConfig(data), settled: at.Settled(time.Now())}, nil
}

// Stricter returns the one of two modes that forbids more.
func Stricter(a, b cfg.Mode) cfg.Mode {
	if strictness(b.Type) > strictness(a.Type) {
		return b
	}
	return a
}

func strictness(t cfg.ModeType) int {
	for i, u := range []cfg.ModeType{cfg.None, cfg.ReadOnly, cfg.Offline, cfg.S3Refresh, cfg.Unlisted, cfg.Unknown, cfg.Unmount} {
		if t == u {
			return i
		}
	}
	return 9 // delete
}

// ReadConfig reads a datastore.cfg and its stamp. A missing file counts as an empty
// one.
func ReadConfig(path string) ([]byte, statefile.Stamp, error) {
	for range 100 {
		data, before, after, err := readBetween(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, statefile.Stamp{}, nil
		case err != nil:
			return nil, statefile.Stamp{}, err
		case before == after:
			return data, after, nil
		}
		time.Sleep(time.Millisecond) // a program is writing into the file
	}
	return nil, statefile.Stamp{}, fmt.Errorf("%s changes while it is read", path)
}

func readBetween(path string) (data []byte, before, after statefile.Stamp, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, before, after, err
	}
	defer f.Close()
	if before, err = statefile.FileStamp(f); err == nil {
		data, err = statefile.ReadOpen(f, cfg.MaxConfig)
	}
	if err == nil {
		after, err = statefile.FileStamp(f)
	}
	return data, before, after, err
}
