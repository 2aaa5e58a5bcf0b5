package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
)

// openOptions are the flags of every command that reads a datastore.
type openOptions struct {
	cachedOnly bool
	untracked  bool
	salvage    bool
	standby    bool // the datastore may be missing at first
	cacheSize  byteSize
	// metadataDir and cacheEncrypted are those of store.Options.
	metadataDir    string
	cacheEncrypted bool
	bucket         bucketOptions
	rights         confine.Capabilities // that a command needs besides those for reading
	unlock.Options
}

func (o *openOptions) register(f *pflag.FlagSet) {
	o.cacheSize = defaultCache()
	f.BoolVar(&o.cachedOnly, "cached-only", false, "serve the local cache of an S3 datastore, as far as it goes")
	f.BoolVar(&o.untracked, "untracked", false, "read although operations cannot be registered, so that maintenance does not see them")
	f.Var(&o.cacheSize, "cache-size", "memory for decoded chunks")
	f.Lookup("cache-size").DefValue = defaultCacheText // the same on every machine, as the manual is
	o.bucket.register(f)
	o.Register(f)
}

// open opens the datastore that arg names, with keys that are already open.
func (a *app) open(ctx context.Context, arg string, o openOptions, s *unlock.Secrets, log *slog.Logger) (*store.Lookup, error) {
	host, err := a.host()
	if err != nil {
		return nil, err
	}
	t, err := locate.Resolve(host, arg)
	if err != nil {
		return nil, err
	}
	return a.openTarget(ctx, host, t, o, s, log)
}

// openTarget opens a datastore, with keys that are already open.
func (a *app) openTarget(ctx context.Context, host hosts.Host, t locate.Target, o openOptions, s *unlock.Secrets, log *slog.Logger) (*store.Lookup, error) {
	opened, masters, err := s.Open()
	if err != nil {
		return nil, err
	}
	offered, err := unlock.NewKeys(s.Offered)
	if err != nil {
		return nil, err
	}
	if o.salvage && o.cachedOnly {
		return nil, usage.Errorf("--salvage and --cached-only: a chunk that is only in the bucket would be taken for lost")
	}
	var in *store.Bucket
	switch {
	case t.S3 && t.Bucket == nil && !o.cachedOnly:
		return nil, fmt.Errorf("datastore %s: its entry does not say which bucket has its chunks; --cached-only serves those that are in %s", t.Name, t.Path)
	case t.Bucket != nil && !o.cachedOnly:
		if in, err = o.bucket.of(t.Bucket, a.getenv); err != nil {
			return nil, fmt.Errorf("datastore %s: %w", t.Name, err)
		}
	case t.Bucket != nil && !filepath.IsAbs(t.Path):
		return nil, usage.Errorf("--cached-only serves a directory of this machine, and %s is a bucket", t.Path)
	}
	ref, err := store.Open(ctx, store.Options{
		Name: t.Name, Path: t.Path, Bucket: in, CacheSize: max(1, int64(o.cacheSize)), CachedOnly: o.cachedOnly,
		Host: host, Untracked: o.untracked, Salvage: o.salvage, Log: log,
		MetadataDir: o.metadataDir, CacheEncrypted: o.cacheEncrypted,
		Keys: opened, OfferedKeys: offered, Masters: masters, IgnoreSignature: o.IgnoreSignature,
		Device: t.UUID(), Standby: o.standby,
	})
	if errors.Is(err, maint.ErrUncounted) {
		return nil, fmt.Errorf("%w; --untracked reads all the same, and maintenance does not see it", err)
	}
	return ref, err
}
