package locate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/places"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/bucket"
)

// Target is the datastore that a command works on.
type Target struct {
	// Name is the name of its operations and modes, configured or made up.
	Name string
	// Path is its directory.
	Path string
	// S3 says that its chunks are in a bucket, and that Path is only a cache of it.
	S3 bool
	// Bucket is where its chunks are, nil for a directory. The location is complete, and
	// has credentials, if a configuration names them.
	Bucket *Bucket
	// Removable is the entry of a datastore on a removable device, nil for any other
	// datastore.
	Removable *cfg.Datastore
	// ID is its identity, as far as it could be seen.
	ID identity.ID
}

// Resolve finds the datastore that an argument names. An argument with a slash is a
// path; any other one is the name of a configured datastore.
func Resolve(host hosts.Host, arg string) (Target, error) {
	if arg == "" {
		return Target{}, usage.Errorf("the datastore's name is empty")
	}
	configured, err := Configured(host)
	if err != nil {
		return Target{}, err
	}
	if strings.HasPrefix(arg, bucket.Scheme) {
		return resolveBucket(host, configured, arg)
	}
	if !IsPath(arg) {
		for _, d := range configured {
			if d.Name == arg {
				return TargetOf(host, configured, d), nil
			}
		}
		hint := ""
		if _, err := reach.Resolve(context.Background(), arg); err == nil {
			hint = fmt.Sprintf("; for the directory here, write ./%s", arg)
		}
		return Target{}, fmt.Errorf("no datastore %s in %s%s", arg, strings.Join(host.ConfigFiles(), " or "), hint)
	}
	return resolvePath(host, configured, arg)
}

// IsPath reports whether an argument is a path and not a name.
func IsPath(arg string) bool { return strings.Contains(arg, "/") }

// TargetOf returns the datastore of an entry. If root has an entry for the same
// directory, root's modes and counts apply, not those of a user's own entry.
func TargetOf(host hosts.Host, configured []cfg.Datastore, d cfg.Datastore) Target {
	ctx := context.Background() // the look is bounded, even if a place hangs
	if o, ok := rootsEntry(ctx, host, configured, d); ok {
		d = o
	}
	t := Target{Name: d.Name, Path: d.Dir(), S3: d.S3(), ID: modes.Identities(ctx, host, []cfg.Datastore{d})[0]}
	t.Bucket = bucketOf(d)
	if d.Removable() {
		t.Removable = &d
		t.Path = modes.Whereabouts(ctx, host, d)
	}
	if t.Path != d.Dir() {
		if found, err := modes.FindAt(ctx, host, nil, t.Path); err == nil {
			t.ID = found.ID
		}
	}
	return t
}

// rootsEntry returns root's entry for the datastore of a user's entry.
func rootsEntry(ctx context.Context, host hosts.Host, configured []cfg.Datastore, d cfg.Datastore) (cfg.Datastore, bool) {
	own := host.ConfigFiles()[0]
	if d.File != own || len(host.ConfigFiles()) == 1 {
		return d, false
	}
	found, _ := modes.FindAt(ctx, host, configured, d.Dir()) // Listed holds what is known even after an error
	for _, o := range found.Listed {
		if o.File != own {
			return o, true
		}
	}
	return d, false
}

// Configured lists the datastores of datastore.cfg. Before that, it cleans up after
// pbsfs commands that were killed.
func Configured(host hosts.Host) ([]cfg.Datastore, error) {
	list, err := maint.Datastores(host)
	if err != nil {
		return nil, err
	}
	stuck := slices.ContainsFunc(list, func(d cfg.Datastore) bool { return maint.Abandoned(d.Mode) })
	for _, d := range list {
		if !maint.Abandoned(d.Mode) {
			continue
		}
		err := maint.FinishUnmount(context.Background(), host, d.Name)
		if err != nil && !errors.Is(err, fs.ErrPermission) { // a user without the permission need not clean up
			return nil, fmt.Errorf("datastore %s: taking back the mode that a killed 'pbsfs unmount' left: %w", d.Name, err)
		}
	}
	if err := Sweep(host); err != nil {
		slog.Debug("unmounting devices that nobody uses", "error", err)
	}
	if !stuck {
		return list, nil
	}
	return maint.Datastores(host)
}

// resolvePath finds the name of the datastore in a directory: its configured name, even
// if it is configured with another path, and otherwise a name made for it.
func resolvePath(host hosts.Host, configured []cfg.Datastore, arg string) (Target, error) {
	ctx := context.Background() // the look is bounded, even if a place hangs
	path, err := reach.Abs(arg)
	if err != nil {
		return Target{}, err
	}
	found, err := modes.FindAt(ctx, host, configured, path)
	if errors.Is(err, places.ErrInTree) {
		// This is a datastore in a backup. A user that names it wants us to look there.
		err = lookInTree(ctx, found.Dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		switch _, err := reach.Resolve(ctx, path); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return Target{}, fmt.Errorf("%s: %w", arg, errNoDirectory)
		case err != nil:
			return Target{}, err
		}
		return Target{}, notDatastore(arg)
	case errors.Is(err, reach.ErrHangs):
		return Target{}, fmt.Errorf("%s: the file system there %w", arg, reach.ErrHangs)
	case err != nil:
		return Target{}, err
	}
	if len(found.Listed) == 0 {
		return Target{Name: modes.UnlistedName(found.Dir, found.ID), Path: found.Dir, ID: found.ID}, nil
	}
	t := TargetOf(host, configured, found.Listed[0])
	t.Path, t.ID = found.Dir, found.ID
	return t, nil
}

// lookInTree looks for a datastore in a mounted tree of pbsfs, in bounded time.
func lookInTree(ctx context.Context, dir string) error {
	info, err := reach.Try(ctx, func() (os.FileInfo, error) { return os.Stat(filepath.Join(dir, ".chunks")) })
	if err == nil && !info.IsDir() {
		return syscall.ENOTDIR
	}
	return err
}

// errNoDirectory says that a path leads nowhere.
var errNoDirectory = errors.New("no such directory")

// notDatastore says that a directory holds no datastore.
func notDatastore(path string) error {
	return fmt.Errorf("%s: %w: it has no directory .chunks", path, store.ErrNotDatastore)
}

// Directory returns the absolute path of a directory that holds a datastore.
func Directory(ctx context.Context, host hosts.Host, arg string) (string, error) {
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", err
	}
	_, err = modes.FindAt(ctx, host, nil, path)
	switch {
	case errors.Is(err, places.ErrInTree):
		return path, lookInTree(ctx, path)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "", notDatastore(path)
	}
	return path, err
}

// MayHold reports whether a directory holds a datastore, or may hold one because it
// cannot be looked at.
func MayHold(ctx context.Context, dir string) bool {
	_, err := reach.Resolve(ctx, dir+"/.chunks")
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// UUID returns the configured UUID of the file system with the datastore.
func (t Target) UUID() string {
	if t.Removable == nil {
		return ""
	}
	return t.Removable.BackingDevice
}
