package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

var (
	// ErrCollecting says that a garbage collection is running.
	ErrCollecting = errors.New("a garbage collection is running")
	// ErrGroupBusy says that another program writes to a backup group or changes it.
	ErrGroupBusy = errors.New("somebody else writes to the backup group")
	// ErrOwner says that a backup group has another owner.
	ErrOwner = errors.New("backup group has another owner")
	// ErrTime says that a backup time is before that of the group's newest snapshot,
	// perhaps because a clock went back. Servers refuse it as well.
	ErrTime = errors.New("the group has a newer snapshot")
	// ErrNotEmpty says that no datastore can be made in a directory, because it is not
	// empty.
	ErrNotEmpty = disk.ErrNotEmpty
)

// DefaultOwner is the owner of a new backup group if no owner is given.
const DefaultOwner = "root@pam"

// SnapshotOptions say how a snapshot is written.
type SnapshotOptions struct {
	// Key encrypts the data and signs the manifest; nil for neither. With
	// SignOnly it only signs.
	Key      *keys.Key
	SignOnly bool
	// Time is the backup time. Its zero value means the first second for which the
	// group has no snapshot yet.
	Time time.Time
	// Owner is the owner of the group, "user@realm". If it is "", a new group gets
	// DefaultOwner. A group with another owner is refused.
	Owner string
	// Notes are recorded in the manifest; Protected keeps the snapshot from
	// being pruned.
	Notes     string
	Protected bool
	// Wait is how long to wait for a garbage collection and for other writers of the
	// group. If Waiting is not nil, it is called once for each of them.
	Wait    time.Duration
	Waiting func(error)
}

// Create makes an empty datastore in a directory that does not exist or is empty. For
// any other directory it returns [ErrNotEmpty].
func Create(ctx context.Context, path string) error { return disk.Create(ctx, path) }

// SnapshotWriter writes one snapshot, which is not visible before Finish. It holds the
// locks that a server takes: exclusive ones on the group and the snapshot, and a shared
// one on the datastore. So neither a garbage collection nor another writer can
// interfere. Its methods must not be called concurrently; the streams that it returns
// are independent of each other.
//
// Its owner must call Finish or Abort. Until then it is part of the write operation
// with which it was begun.
type SnapshotWriter struct {
	right *right
	disk  *disk.Writable
	opts  SnapshotOptions
	sink  *chunk.Sink
	enc   blob.Encoder
	name  name.Snapshot
	began time.Time

	locks []*disk.Lock
	made  []made // what Abort removes, in the order in which it was made
	slots chan struct{}
	bufs  sync.Pool

	mu      sync.Mutex // a leaf lock; guards what follows
	files   []manifest.File
	streams map[*StreamWriter]bool
	zero    *name.Digest // of a chunk of zeros, once it is stored
	ended   bool
}

// made is a file or directory that is new.
type made struct {
	name string
	dir  bool
}

// BeginSnapshot begins a snapshot of a group. It makes the group and its namespace if
// they do not exist.
func BeginSnapshot(ctx context.Context, right CanWrite, g name.Group, opts SnapshotOptions) (*SnapshotWriter, error) {
	if right == nil {
		return nil, ErrReleased
	}
	held, err := right.writing()
	if err != nil {
		return nil, err
	}
	own, err := held.share()
	if err != nil {
		return nil, err
	}
	s := &SnapshotWriter{
		right: own, opts: opts, began: time.Now(),
		slots:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		streams: make(map[*StreamWriter]bool),
	}
	s.bufs.New = func() any { return new(buffers) }
	if err := s.begin(ctx, right, g); err != nil {
		return nil, fmt.Errorf("datastore %s: %s: %w", own.ds.name, g, errors.Join(err, s.undo()))
	}
	return s, nil
}

// Name returns the snapshot that is being written.
func (s *SnapshotWriter) Name() name.Snapshot { return s.name }

// begin takes the locks and makes the directory.
func (s *SnapshotWriter) begin(ctx context.Context, right CanRead, g name.Group) error {
	root, err := s.right.Root()
	if err != nil {
		return err
	}
	dir, ok := root.(*disk.Root)
	if !ok {
		return errors.New("a datastore in a bucket is written by its server alone")
	}
	if s.disk, err = dir.Writable(); err != nil {
		return err
	}
	s.enc = blob.Encoder{Compress: true}
	if !s.opts.SignOnly {
		s.enc.Key = s.opts.Key
	}
	ds := s.right.ds
	s.sink = chunk.NewSink(s.disk, s.enc, func(err error) {
		ds.log.Warn("chunk was broken", "datastore", ds.name, "error", err)
	})
	ctx, cancel := context.WithTimeout(ctx, max(s.opts.Wait, time.Millisecond))
	defer cancel()
	if err := s.lock(ctx, ErrCollecting, s.disk.LockStore); err != nil {
		return err
	}
	if err := s.makeGroup(g); err != nil {
		return err
	}
	if err := s.lock(ctx, ErrGroupBusy, func() (*disk.Lock, error) { return s.disk.LockExclusive(g.Dir()) }); err != nil {
		return err
	}
	if err := s.own(ctx, g); err != nil {
		return err
	}
	return s.makeSnapshot(context.WithoutCancel(ctx), right, g)
}

// lock takes a lock, and waits for its holder.
func (s *SnapshotWriter) lock(ctx context.Context, busy error, take func() (*disk.Lock, error)) error {
	for told := false; ; {
		l, err := take()
		if err == nil {
			s.locks = append(s.locks, l)
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return acceptNoLocks(err)
		}
		if !told && s.opts.Waiting != nil {
			s.opts.Waiting(busy)
			told = true
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return busy
			}
			return context.Cause(ctx)
		}
	}
}

// acceptNoLocks accepts that a file system has no locks: no server can lock there
// either.
func acceptNoLocks(err error) error {
	if backend.NoLocks(err) {
		return nil
	}
	return err
}

// makeGroup makes the group's directory and its parents.
func (s *SnapshotWriter) makeGroup(g name.Group) error {
	dir := g.Dir()
	for i := range len(dir) {
		if dir[i] == '/' {
			if err := s.makeDir(dir[:i]); err != nil {
				return err
			}
		}
	}
	return s.makeDir(dir)
}

func (s *SnapshotWriter) makeDir(dir string) error {
	isNew, err := s.disk.MakeDir(dir)
	if isNew {
		s.made = append(s.made, made{dir, true})
	}
	return err
}

// writeFile makes a file of the snapshot or group.
func (s *SnapshotWriter) writeFile(at string, data []byte) error {
	err := s.disk.WriteFile(at, data)
	if errors.Is(err, fs.ErrExist) {
		return err // the file belongs to another program
	}
	// After an error in syncing its directory, the file may exist all the same.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, made{at, false})
	return err
}

// makeSnapshot makes the snapshot's directory. If another snapshot was taken in this
// second, it waits for the next one.
func (s *SnapshotWriter) makeSnapshot(ctx context.Context, right CanRead, g name.Group) error {
	for {
		at := s.opts.Time
		if at.IsZero() {
			at = time.Now()
		}
		t, err := name.NewTime(at)
		if err != nil {
			return err
		}
		if s.name, err = name.NewSnapshot(g, t); err != nil {
			return err
		}
		if err := s.isNewest(ctx, right); err != nil {
			return err
		}
		isNew, err := s.disk.MakeDir(s.name.Dir())
		if isNew {
			s.made = append(s.made, made{s.name.Dir(), true})
		}
		switch {
		case err != nil:
			return err
		case isNew:
			l, err := s.disk.LockExclusive(s.name.Dir())
			if err != nil {
				return acceptNoLocks(err)
			}
			s.locks = append(s.locks, l)
			return nil
		case !s.opts.Time.IsZero():
			return fmt.Errorf("snapshot %s: %w", t, fs.ErrExist)
		}
		select {
		case <-time.After(time.Until(at.Truncate(time.Second).Add(time.Second))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isNewest refuses to write a snapshot that is older than others of its group: the time
// decides what is pruned, and what "latest" is.
func (s *SnapshotWriter) isNewest(ctx context.Context, right CanRead) error {
	newest, ok, err := Latest(ctx, right, s.name.Group())
	if err != nil {
		return err
	}
	if ok && newest.Time().Unix() > s.name.Time().Unix() {
		return fmt.Errorf("%w, of %s, than this one of %s would be; check the clock", ErrTime, newest.Time(), s.name.Time())
	}
	return nil
}

// file returns the path of a file below the datastore.
func (s *SnapshotWriter) file(f name.File) string { return path.Join(s.name.Dir(), f.String()) }

// mode returns how the manifest says that the files are protected.
func (s *SnapshotWriter) mode() manifest.CryptMode {
	switch {
	case s.opts.Key == nil:
		return manifest.CryptModeNone
	case s.opts.SignOnly:
		return manifest.CryptModeSignOnly
	}
	return manifest.CryptModeEncrypt
}

// add adds a complete file to the manifest.
func (s *SnapshotWriter) add(f name.File, size int64, csum [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, manifest.File{Name: f, Mode: s.mode(), Size: size, Csum: csum})
}

// at adds to an error the snapshot and file that could not be written.
func (s *SnapshotWriter) at(f name.File, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Datastore: s.right.ds.name, Snapshot: s.name, File: f, Off: -1, Err: err}
}
