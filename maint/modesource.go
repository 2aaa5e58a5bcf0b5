package maint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// modeSource knows what all datastore.cfg that bind us say of one datastore, and
// reads them only when they have changed.
type modeSource struct {
	host  Host
	store string
	path  string // where the datastore lies; "" for the one that the entry says
	// lenient: a file that may not be read holds no mode. Only for those who
	// do not count either.
	lenient bool
	watch   *mounts.MountWatch // nil: the mount table is compared

	// mu guards the memory of the last reading; it is never held across I/O
	// and nothing is locked under it.
	mu     sync.Mutex
	files  []configReading // one for each file of host.Configs()
	own    spot            // where the datastore was last seen
	listed bool            // an entry was the datastore's, sometime
	last   binding
	epoch  uint64 // of the mounts, when last was made
	valid  bool   // last is of the files and the epoch
}

// configReading is what was read of one file.
type configReading struct {
	stamp   stamp
	config  *cfg.Config
	settled bool // the stamp shows every change
	hidden  bool // it may not be read
}

func newModeSource(host Host, store, path string, lenient bool) *modeSource {
	return &modeSource{
		host: host, store: store, path: path, lenient: lenient,
		files: make([]configReading, len(host.Configs())), own: spot{dir: path},
	}
}

// watchMounts makes it cheap to see that the mounts have not changed.
func (m *modeSource) watchMounts() { m.watch, _ = mounts.WatchMounts() }

func (m *modeSource) close() {
	if m.watch != nil {
		_ = m.watch.Close()
	}
}

// mountsNow returns a number that changes with the mount table.
func (m *modeSource) mountsNow() uint64 {
	if m.watch == nil {
		return m.host.Places().refresh()
	}
	if changed, err := m.watch.Wait(0); changed || err != nil {
		return m.host.Places().changed()
	}
	return m.host.Places().now()
}

// current is the binding of this moment; file says what could not be read. It
// may look at places, so no lock may be held.
func (m *modeSource) current(ctx context.Context) (b binding, file string, err error) {
	epoch := m.mountsNow()
	files, same, file, err := m.read(false)
	if err != nil {
		return binding{}, file, err
	}
	m.mu.Lock()
	if same && m.valid && m.epoch == epoch {
		defer m.mu.Unlock()
		return m.last, "", nil
	}
	m.mu.Unlock()
	m.look(ctx, files)
	return m.bind(files, epoch), "", nil
}

// prepare looks at what [modeSource.fresh] has to know.
func (m *modeSource) prepare(ctx context.Context) (file string, err error) {
	m.mountsNow()
	files, _, file, err := m.read(false)
	if err != nil {
		return file, err
	}
	m.look(ctx, files)
	return "", nil
}

// counted are the names that operations are published under, as of the last
// reading.
func (m *modeSource) counted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.counted(m.store)
}

// unsure are the entries that did not answer at the last reading.
func (m *modeSource) unsure() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.unsure
}

// identity is what the datastore was told by when it was last seen.
func (m *modeSource) identity() identity.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own.id
}

// lastRead is what stood in the files when they were last read.
func (m *modeSource) lastRead() []configReading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files
}

// errUnseen says that an entry names a place that nobody has looked at yet.
var errUnseen = errors.New("the places of the datastores have changed meanwhile")

// fresh reads every file again, for those who hold its lock. It looks at nothing
// else: where a place was not looked at the error is errUnseen, unless anyhow is
// set.
func (m *modeSource) fresh(anyhow bool) (b binding, file string, err error) {
	epoch := m.host.Places().now()
	files, _, file, err := m.read(true)
	if err != nil {
		return binding{}, file, err
	}
	if !anyhow && !m.seen(files) {
		return binding{}, "", errUnseen
	}
	return m.bind(files, epoch), "", nil
}

// read returns what stands in the files, reading those that have changed, or all
// again. same says that nothing has.
func (m *modeSource) read(again bool) (files []configReading, same bool, file string, err error) {
	m.mu.Lock()
	known := m.files
	m.mu.Unlock()
	files, same = make([]configReading, len(known)), true
	for i, place := range m.host.Configs() {
		if files[i], err = m.reread(known[i], place.File(), again); err != nil {
			return nil, false, place.File(), err
		}
		same = same && files[i].config == known[i].config
	}
	if !same {
		m.mu.Lock()
		m.files, m.valid = files, false
		m.mu.Unlock()
	}
	return files, same, "", nil
}

func (m *modeSource) reread(known configReading, path string, again bool) (configReading, error) {
	if known.config != nil && known.settled && !again {
		now, err := stampOf(path)
		if err == nil && known.stamp == now {
			return known, nil
		}
		if err != nil && !m.lenient {
			return configReading{}, err
		}
	}
	data, at, err := readConfig(path)
	if err != nil && m.lenient && errors.Is(err, os.ErrPermission) {
		return configReading{config: &cfg.Config{}, hidden: true}, nil
	}
	if err != nil {
		return configReading{}, err
	}
	return configReading{stamp: at, config: cfg.ParseConfig(data), settled: at.settled(time.Now())}, nil
}

// stricter of two modes is the one that forbids more.
func stricter(a, b cfg.Mode) cfg.Mode {
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

// readConfig reads a datastore.cfg and the stamp of what was read. A missing
// file is an empty one.
func readConfig(path string) ([]byte, stamp, error) {
	for range 100 {
		data, before, after, err := readBetween(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, stamp{}, nil
		case err != nil:
			return nil, stamp{}, err
		case before == after:
			return data, after, nil
		}
		time.Sleep(time.Millisecond) // somebody writes into it
	}
	return nil, stamp{}, fmt.Errorf("%s changes while it is read", path)
}

func readBetween(path string) (data []byte, before, after stamp, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, before, after, err
	}
	defer f.Close()
	if before, err = fileStamp(f); err == nil {
		data, err = statefile.ReadOpen(f, cfg.MaxConfig)
	}
	if err == nil {
		after, err = fileStamp(f)
	}
	return data, before, after, err
}
