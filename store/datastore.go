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
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/chunk"
	"github.com/pbsfs/pbsfs/store/internal/metadata"
	"github.com/pbsfs/pbsfs/store/keys"
)

// DefaultCacheSize is the default for the number of bytes of decoded chunks to keep.
const DefaultCacheSize = 512 << 20

// Options say how a datastore is opened.
type Options struct {
	// Name is the name of the datastore in messages and in the operations file.
	Name string
	// Path is its directory. It is not used if there is a Bucket.
	Path string
	// Bucket says where the datastore lies, if that is not a directory.
	Bucket *Bucket
	// CacheSize bounds the memory for decoded chunks, in bytes. Chunks that are being
	// loaded are included, unless the size is small. 0 means DefaultCacheSize.
	CacheSize int64
	// Keys open encrypted snapshots; Masters recover the keys of other snapshots.
	Keys    []*keys.Key
	Masters []*keys.Master
	// OfferedKeys open the snapshots that name them, and are not tried on others.
	OfferedKeys []*keys.Key
	// IgnoreSignature serves snapshots whose manifest has a wrong signature.
	IgnoreSignature bool
	// Salvage gives contents with zeros where chunks are damaged: see [Salvaged].
	Salvage bool
	// Device is the UUID of the file system with a removable datastore. If it is "",
	// the first file system seen at the path is taken for the right one.
	Device string
	// Standby opens a datastore that is missing, or that may not be read yet. It is
	// looked for when an operation needs it.
	Standby bool
	// CachedOnly serves those parts of an S3 datastore that are in its local cache.
	CachedOnly bool
	// MetadataDir is a directory in which the metadata of archives is kept from one
	// process to the next. It is made when needed. With "" no metadata is kept. With
	// CacheEncrypted the metadata of encrypted archives is kept too, in decrypted form.
	MetadataDir    string
	CacheEncrypted bool
	// Host says where operations are registered and maintenance modes are read.
	Host hosts.Host
	// Untracked registers no operations, for hosts on which that is not possible.
	Untracked bool
	// Log gets messages that are not part of an answer; nil discards them.
	Log *slog.Logger
}

// datastore is the state that all references to one datastore share.
type datastore struct {
	medium
	name, path string
	log        *slog.Logger
	host       hosts.Host
	ops        *maint.Operations

	chunks *chunk.Source
	memory memory
	keys   *keyring
	zeros  zeroChunks
	locks  snapshotLocks
	lost   lostChunks

	salvage         bool
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

// Open returns a reference to the datastore in the directory opts.Path, after checking
// that there is one. The caller must Close it.
func Open(ctx context.Context, opts Options) (*Lookup, error) {
	path, err := opts.place()
	if err != nil {
		return nil, err
	}
	if opts.CacheSize == 0 {
		opts.CacheSize = DefaultCacheSize
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	limits := chunk.LocalLimits()
	if opts.Bucket != nil {
		limits = opts.Bucket.limits(opts.CacheSize)
	}
	d := &datastore{
		name: opts.Name, path: path, log: opts.Log,
		host:   opts.Host,
		chunks: chunk.NewSource(opts.CacheSize-min(opts.CacheSize/4, limits.Overhead()), limits),
		memory: newMemory(metadata.Options{Memory: metadataBytes, Dir: opts.MetadataDir, Disk: metadataDisk, Log: opts.Log}),
		keys:   newKeyring(opts.Keys, opts.OfferedKeys, opts.Masters),

		salvage:         opts.Salvage,
		ignoreSignature: opts.IgnoreSignature,
		cacheEncrypted:  opts.CacheEncrypted,
		removable:       opts.Device != "",
	}
	if d.medium, err = d.mediumOf(opts); err != nil {
		return nil, fmt.Errorf("datastore %s: %w", opts.Name, err)
	}
	d.ops, err = maint.NewOperations(maint.Options{
		Store:      opts.Name,
		Path:       opts.counted(path),
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

// place returns where the datastore lies, in the form in which it is shown.
func (o Options) place() (string, error) {
	if o.Bucket != nil {
		return o.Bucket.String(), nil
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return "", fmt.Errorf("datastore %s: %w", o.Path, err)
	}
	return path, nil
}

// counted returns the place by which package maint finds further names of the datastore.
// A bucket has none: its datastore is known by its name.
func (o Options) counted(path string) string {
	if o.Bucket != nil {
		return ""
	}
	return path
}

func (d *datastore) mediumOf(o Options) (medium, error) {
	if o.Bucket != nil {
		return newBucketMedium(o.Name, o.Log, o.Bucket)
	}
	return &directory{
		presence: presence{name: o.Name, log: o.Log}, path: d.path, another: d.memory.snapshots.Drop,
		filesystem: filesystemOf(o.Device), base: Attr{Mtime: time.Now()},
	}, nil
}

// close ends the counting, which closes the descriptors that linger. A load that a
// reader has given up on counts until it ends.
func (d *datastore) close() error {
	d.chunks.Wait()
	if err := d.ops.Close(); err != nil {
		return fmt.Errorf("datastore %s: %w", d.name, err)
	}
	d.chunks.Close()
	d.medium.close()
	d.dropCaches()
	d.memory.metadata.Close()
	return nil
}

// dropCaches frees the memory of chunks. Cached names stay: they answer lookups while
// nothing may be read.
func (d *datastore) dropCaches() { d.chunks.Drop() }

// acquire begins an operation.
func (d *datastore) acquire(ctx context.Context, op cfg.Operation) (*right, error) {
	guard, err := d.ops.Begin(ctx, op)
	if err != nil {
		return nil, fmt.Errorf("datastore %s: %w", d.name, err)
	}
	return d.begun(guard)
}

// join begins a read operation beside others, to load chunks ahead for a reader that
// has closed one file and will open the next.
func (d *datastore) join() (*right, error) {
	guard, err := d.ops.Join(cfg.Read)
	if err != nil {
		return nil, err
	}
	return d.begun(guard)
}

// begun returns the right for an operation that was counted.
func (d *datastore) begun(guard *maint.Guard) (*right, error) {
	if err := d.follow(); err != nil {
		guard.Release()
		return nil, err
	}
	o := &operation{guard: guard}
	o.shares.Store(1)
	return &right{ds: d, op: o}, nil
}

// drop closes what is open. maint calls it when no operation is active, before it
// publishes that.
func (d *datastore) drop() {
	d.locks.drop()
	d.medium.drop()
}

func attrOf(i backend.Info) Attr {
	return Attr{UID: i.UID, GID: i.GID, Mtime: i.Mtime, Size: i.Size}
}

// Base returns the attributes of the datastore's directory as they were last
// seen.
func (l *Lookup) Base() Attr {
	if l.isZero() {
		return Attr{}
	}
	return l.ds.attr()
}

// Parallel returns how many chunks are best read at a time: as many as there are
// processors to decode them, or, from far away, as fill the line.
func (l *Lookup) Parallel() int {
	if l.isZero() {
		return 1
	}
	return l.ds.chunks.Parallel()
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
