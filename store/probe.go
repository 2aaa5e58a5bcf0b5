package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/name"
)

// To recognize the local cache of an S3 datastore, chunk directories are looked at
// until enough of them with chunks were seen, and no more than a fixed number in all. A
// datastore has 65,536 of them, and a mount must not take longer on a slow disk.
const (
	sampledPrefixes = 64
	listedPrefixes  = 256
)

// probe checks that there is a datastore that we can read, and stores its attributes.
func (d *datastore) probe(ctx context.Context, cachedOnly bool) error {
	r, err := d.acquire(ctx, cfg.Read)
	if err != nil {
		return err
	}
	defer r.Release()
	if m, ok := d.medium.(*bucketMedium); ok {
		return m.check(ctx)
	}
	root, err := r.Root()
	if errors.Is(err, ErrGone) && !d.removable {
		if root, oerr := disk.Open(d.path); oerr == nil {
			return errors.Join(fmt.Errorf("%s: %w: it has no directory .chunks", d.path, ErrNotDatastore), root.Close())
		}
		return err
	}
	if err != nil {
		return err
	}
	prefixes, err := root.List(ctx, ".chunks")
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: no permission to read .chunks; only root and the group of the datastore's owner may", d.path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	if !cachedOnly && looksLikeS3Cache(ctx, root, prefixes) {
		return fmt.Errorf("%s: %w: its chunks are in the bucket: name it as s3://BUCKET/STORE; or --cached-only serves those that are here", d.path, ErrS3Cache)
	}
	return nil
}

// looksLikeS3Cache recognizes the local cache of an S3 datastore by files that a
// datastore on disk does not have: markers of the garbage collection for buckets, and
// chunk files that were emptied when they were evicted.
func looksLikeS3Cache(ctx context.Context, root backend.Backend, prefixes []backend.Entry) bool {
	// Directories with neighbouring names were made one after the other.
	slices.SortFunc(prefixes, func(a, b backend.Entry) int { return strings.Compare(a.Name, b.Name) })
	chunks, empty, seen := 0, 0, 0
	for _, p := range prefixes[:min(len(prefixes), listedPrefixes)] {
		if !p.Dir || len(p.Name) != 4 {
			continue
		}
		files, err := root.List(ctx, ".chunks/"+p.Name)
		if err != nil || len(files) == 0 {
			continue
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name, ".using") {
				return true
			}
			if _, err := name.ParseDigest(f.Name); err != nil {
				continue
			}
			info, err := root.Stat(ctx, ".chunks/"+p.Name+"/"+f.Name)
			if err != nil {
				continue
			}
			chunks++
			if info.Size == 0 {
				empty++
			}
		}
		if seen++; seen == sampledPrefixes {
			break
		}
	}
	return chunks > 0 && empty*2 > chunks
}
