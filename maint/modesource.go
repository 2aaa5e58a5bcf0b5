package maint

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrNotConfigured says that a datastore is not listed in datastore.cfg.
var ErrNotConfigured = errors.New("not configured in datastore.cfg (first: pbsfs datastore add)")

// stamp tells two states of a file apart without reading it. The zero stamp is
// a file that is not there.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func stampOf(path string) (stamp, error) {
	var st syscall.Stat_t
	for {
		switch err := syscall.Stat(path, &st); err {
		case nil:
			return makeStamp(&st), nil
		case syscall.EINTR:
		case syscall.ENOENT:
			return stamp{}, nil
		default:
			return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

func makeStamp(st *syscall.Stat_t) stamp {
	return stamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// settled says whether a change of the file after now must show in the stamp.
// Within one tick of the file system's clock it need not, if somebody writes
// into the file in place.
func (s stamp) settled(now time.Time) bool {
	const tick = 20 * time.Millisecond
	return s == stamp{} || now.Sub(time.Unix(s.ctime.Unix())) > tick
}

// modeSource knows the mode of one datastore in all datastore.cfg that bind
// us, and reads them only when they have changed.
type modeSource struct {
	host  Host
	store string
	dir   string // where the datastore lies, without symbolic links; "" if that is not known
	// lenient: a file that may not be read holds no mode. Only for those who
	// do not count either.
	lenient bool

	// mu guards the memory of the last reading; it is never held across I/O
	// and nothing is locked under it.
	mu    sync.Mutex
	known []modeReading // one for each file of host.configs
}

type modeReading struct {
	stamp stamp
	mode  Mode
	valid bool // stamp and mode belong together and the stamp was settled
}

func newModeSource(host Host, store, path string, lenient bool) *modeSource {
	m := &modeSource{host: host, store: store, lenient: lenient, known: make([]modeReading, len(host.configs))}
	if path != "" {
		m.dir = resolveDir(path)
	}
	return m
}

// current is the mode of this moment; file says what could not be read.
func (m *modeSource) current() (mode Mode, file string, err error) { return m.look(false) }

// fresh reads every file again.
func (m *modeSource) fresh() (mode Mode, file string, err error) { return m.look(true) }

func (m *modeSource) look(again bool) (Mode, string, error) {
	var mode Mode
	for i, place := range m.host.configs {
		r, err := m.reading(i, place.file(), again)
		if err != nil && m.lenient && errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return Mode{}, place.file(), err
		}
		mode = stricter(mode, r)
	}
	return mode, "", nil
}

func (m *modeSource) reading(i int, path string, again bool) (Mode, error) {
	if !again {
		now, err := stampOf(path)
		if err != nil {
			return Mode{}, err
		}
		m.mu.Lock()
		known := m.known[i]
		m.mu.Unlock()
		if known.valid && known.stamp == now {
			return known.mode, nil
		}
	}
	data, at, err := readConfig(path)
	if err != nil {
		return Mode{}, err
	}
	r := modeReading{stamp: at, mode: parseConfig(data).modeAt(m.store, m.dir), valid: at.settled(time.Now())}
	if r.mode.Type == Unknown {
		r.mode.Problem = path + ": " + r.mode.Problem
	}
	m.mu.Lock()
	m.known[i] = r
	m.mu.Unlock()
	return r.mode, nil
}

// stricter of two modes is the one that forbids more.
func stricter(a, b Mode) Mode {
	if strictness(b.Type) > strictness(a.Type) {
		return b
	}
	return a
}

func strictness(t ModeType) int {
	for i, u := range []ModeType{None, ReadOnly, Offline, S3Refresh, Unknown, Unmount} {
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
		data, err = readOpen(f, maxConfig)
	}
	if err == nil {
		after, err = fileStamp(f)
	}
	return data, before, after, err
}

func fileStamp(f *os.File) (stamp, error) {
	st, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	return makeStamp(st.Sys().(*syscall.Stat_t)), nil
}

// ReadMode is the mode of a datastore at this moment, from every datastore.cfg
// that binds us. One that is not listed has none.
func ReadMode(host Host, store string) (Mode, error) {
	if len(host.configs) == 0 {
		return Mode{}, errNoHost
	}
	mode, file, err := newModeSource(host, store, "", false).fresh()
	if err != nil {
		return Mode{}, fmt.Errorf("read the maintenance mode of datastore %s from %s: %w", store, file, err)
	}
	return mode, nil
}
