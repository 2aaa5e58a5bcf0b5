package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/internal/metadata"
	"github.com/pbsfs/pbsfs/store/keys"
)

// DefaultCacheSize is how many bytes of decoded chunks are kept unless asked
// otherwise.
const DefaultCacheSize = 512 << 20

// Options say how a datastore is opened.
type Options struct {
	// Name is what the datastore is called in messages and in the operations
	// file.
	Name string
	// Path is its directory.
	Path string
	// CacheSize bounds the memory for decoded chunks, in bytes, those that are
	// being loaded included unless it is small; 0 means DefaultCacheSize.
	CacheSize int64
	// Keys open encrypted snapshots; Masters recover the keys of others.
	Keys    []*keys.Key
	Masters []*keys.Master
	// OfferedKeys open those snapshots that name them, and are not tried on others.
	OfferedKeys []*keys.Key
	// IgnoreSignature serves snapshots whose manifest has a wrong signature.
	IgnoreSignature bool
	// Device is the UUID of the file system that a removable datastore lies on;
	// "" where it is not known, and then the first one seen is the one.
	Device string
	// Standby opens a datastore that is not there, or may not be read, yet:
	// it is looked for when somebody wants to read.
	Standby bool
	// CachedOnly serves the local cache of an S3 datastore as far as it goes.
	CachedOnly bool
	// MetadataDir is a directory where the metadata of archives is remembered
	// from one process to the next; it is made when it is needed. With "" none
	// is. CacheEncrypted remembers that of encrypted archives, too: as it was
	// decrypted.
	MetadataDir    string
	CacheEncrypted bool
	// Host is where operations are registered and maintenance modes read.
	Host hosts.Host
	// Untracked registers no operations, for hosts where that cannot be done.
	Untracked bool
	// Log gets what is no answer to anybody; nil discards it.
	Log *slog.Logger
}

// datastore is what all references to one datastore share.
type datastore struct {
	*medium
	host hosts.Host
	ops  *maint.Operations

	chunks *chunk.Source
	memory memory
	keys   *keyring
	zeros  zeroChunks
	locks  snapshotLocks

	ignoreSignature bool
	cacheEncrypted  bool
	removable       bool
}

// Attr is what is known of a directory or file above the archives.
type Attr struct {
	UID, GID uint32
	Mtime    time.Time
	Size     int64
}

// Open returns a reference to the datastore in the directory opts.Path, after
// a look at whether there is one. The caller must Close it.
func Open(ctx context.Context, opts Options) (*Lookup, error) {
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("datastore %s: %w", opts.Path, err)
	}
	if opts.CacheSize == 0 {
		opts.CacheSize = DefaultCacheSize
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := &datastore{
		medium: &medium{
			name: opts.Name, path: path, log: opts.Log,
			filesystem: filesystemOf(opts.Device), base: Attr{Mtime: time.Now()},
		},
		host:   opts.Host,
		chunks: chunk.NewSource(opts.CacheSize-min(opts.CacheSize/4, chunk.Overhead), chunk.LocalLimits()),
		memory: newMemory(metadata.Options{Memory: metadataBytes, Dir: opts.MetadataDir, Disk: metadataDisk, Log: opts.Log}),
		keys:   newKeyring(opts.Keys, opts.OfferedKeys, opts.Masters),

		ignoreSignature: opts.IgnoreSignature,
		cacheEncrypted:  opts.CacheEncrypted,
		removable:       opts.Device != "",
	}
	d.another = d.memory.snapshots.Drop
	d.ops, err = maint.NewOperations(maint.Options{
		Store:      opts.Name,
		Path:       path,
		Host:       opts.Host,
		Untracked:  opts.Untracked,
		Drop:       d.drop,
		DropCaches: d.dropCaches,
		Log:        opts.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("datastore %s: %w", opts.Name, err)
	}
	if err := d.probe(ctx, opts.CachedOnly); err != nil && (!opts.Standby || !comesBack(err)) {
		return nil, errors.Join(err, d.ops.Close())
	}
	return &Lookup{ds: lookupOnly{d}}, nil
}

// close ends the counting, which closes what lingers. Loads that a reader has
// given up on count until they end.
func (d *datastore) close() error {
	d.chunks.Wait()
	if err := d.ops.Close(); err != nil {
		return fmt.Errorf("datastore %s: %w", d.name, err)
	}
	d.chunks.Close()
	d.dropCaches()
	d.memory.metadata.Close()
	return nil
}

// dropCaches gives back the memory that chunks take. What is known by name
// stays: it answers lookups while nothing may be read.
func (d *datastore) dropCaches() { d.chunks.Drop() }

// acquire begins an operation.
func (d *datastore) acquire(ctx context.Context, op cfg.Operation) (*right, error) {
	guard, err := d.ops.Begin(ctx, op)
	if err != nil {
		return nil, fmt.Errorf("datastore %s: %w", d.name, err)
	}
	return d.begun(guard)
}

// join begins a read operation beside others, for what is loaded ahead of a
// reader who has let go of one thing and will take up the next.
func (d *datastore) join() (*right, error) {
	guard, err := d.ops.Join(cfg.Read)
	if err != nil {
		return nil, err
	}
	return d.begun(guard)
}

// begun returns the right that goes with an operation that was counted.
func (d *datastore) begun(guard *maint.Guard) (*right, error) {
	if err := d.follow(); err != nil {
		guard.Release()
		return nil, err
	}
	o := &operation{guard: guard}
	o.shares.Store(1)
	return &right{ds: d, op: o}, nil
}

// drop closes what is open. maint calls it when no operation is active, before
// it says so to anybody.
func (d *datastore) drop() {
	d.locks.drop()
	d.medium.drop()
}

func attrOf(i disk.Info) Attr {
	return Attr{UID: i.UID, GID: i.GID, Mtime: i.Mtime, Size: i.Size}
}

// Base returns the attributes of the datastore's directory as they were last
// seen.
func (l *Lookup) Base() Attr {
	if l.isZero() {
		return Attr{}
	}
	l.ds.mu.Lock()
	defer l.ds.mu.Unlock()
	return l.ds.base
}

// Statfs returns the figures of the file system that holds the datastore.
func Statfs(right CanRead) (unix.Statfs_t, error) {
	r, err := held(right)
	if err != nil {
		return unix.Statfs_t{}, err
	}
	root, err := r.Root()
	if err != nil {
		return unix.Statfs_t{}, err
	}
	return root.Statfs()
}
