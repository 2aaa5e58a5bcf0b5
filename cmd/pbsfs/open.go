package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
)

// openOptions are the flags of every command that reads a datastore.
type openOptions struct {
	cachedOnly bool
	untracked  bool
	standby    bool // the datastore may be missing at first
	cacheSize  byteSize
	// metadataDir and cacheEncrypted are those of store.Options.
	metadataDir    string
	cacheEncrypted bool
	unlock.Options
}

func (o *openOptions) register(f *pflag.FlagSet) {
	o.cacheSize = store.DefaultCacheSize
	f.BoolVar(&o.cachedOnly, "cached-only", false, "serve the local cache of an S3 datastore, as far as it goes")
	f.BoolVar(&o.untracked, "untracked", false, "read although operations cannot be registered, so that maintenance does not see them")
	f.Var(&o.cacheSize, "cache-size", "memory for decoded chunks")
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
	return openTarget(ctx, host, t, o, s, log)
}

// openTarget opens a datastore, with keys that are already open.
func openTarget(ctx context.Context, host hosts.Host, t locate.Target, o openOptions, s *unlock.Secrets, log *slog.Logger) (*store.Lookup, error) {
	opened, masters, err := s.Open()
	if err != nil {
		return nil, err
	}
	offered, err := unlock.NewKeys(s.Offered)
	if err != nil {
		return nil, err
	}
	if t.S3 && !o.cachedOnly {
		return nil, fmt.Errorf("datastore %s: %s: %w: its chunks are in the bucket; --cached-only serves those that are here", t.Name, t.Path, store.ErrS3Cache)
	}
	ref, err := store.Open(ctx, store.Options{
		Name: t.Name, Path: t.Path, CacheSize: max(1, int64(o.cacheSize)), CachedOnly: o.cachedOnly,
		Host: host, Untracked: o.untracked, Log: log,
		MetadataDir: o.metadataDir, CacheEncrypted: o.cacheEncrypted,
		Keys: opened, OfferedKeys: offered, Masters: masters, IgnoreSignature: o.IgnoreSignature,
		Device: t.UUID(), Standby: o.standby,
	})
	if errors.Is(err, maint.ErrUncounted) {
		return nil, fmt.Errorf("%w; --untracked reads all the same, and maintenance does not see it", err)
	}
	return ref, err
}
