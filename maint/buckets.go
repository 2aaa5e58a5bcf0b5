package maint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// AddBucket adds a datastore in a bucket to our own datastore.cfg, and its server, with the
// access key, to the s3.cfg beside it, which only its owner may read.
func AddBucket(ctx context.Context, host hosts.Host, d cfg.Datastore, e cfg.S3Endpoint) error {
	if err := CheckAdd(ctx, host, d); err != nil {
		return err
	}
	return editConfig(ctx, host, func(c *cfg.Config) ([]byte, error) {
		if err := nameIsNew(host, d); err != nil {
			return nil, err
		}
		if err := editEndpoints(host, func(file []byte) []byte { return cfg.WithEndpoint(file, d.Client, e) }); err != nil {
			return nil, err
		}
		return c.Added(d), nil
	})
}

// DropEndpoint removes a server, and the access key for it, from our own s3.cfg, unless
// another datastore is there.
func DropEndpoint(ctx context.Context, host hosts.Host, id string) error {
	return editConfig(ctx, host, func(c *cfg.Config) ([]byte, error) {
		used := slices.ContainsFunc(c.Datastores(""), func(d cfg.Datastore) bool { return d.Client == id })
		if used {
			return c.Bytes(), nil
		}
		return c.Bytes(), editEndpoints(host, func(file []byte) []byte { return cfg.WithoutEndpoint(file, id) })
	})
}

// secretMode is that of a file with an access key.
const secretMode = 0o600

// editEndpoints replaces our own s3.cfg. The caller holds the lock of datastore.cfg.
func editEndpoints(host hosts.Host, edit func([]byte) []byte) error {
	path := filepath.Join(host.Configs()[0].Dir, cfg.S3FileName)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := statefile.ReplaceFile(path, edit(old), statefile.Owner{}, secretMode); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
