package mountpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// Check returns an error if the datastore in path must not be mounted on where, which
// is an absolute path.
func Check(ctx context.Context, where, path string, nonempty bool) error {
	if err := checkFree(ctx, where); err != nil { // comes before any look into a mount there
		return err
	}
	if err := reach.Answers(ctx, where); err != nil {
		return fmt.Errorf("cannot mount on %w", err)
	}
	info, err := os.Stat(where)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: no such directory to mount on", where)
	case err != nil:
		return fmt.Errorf("cannot mount on %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s: cannot mount on what is not a directory", where)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s: users can only mount on directories of their own", where)
	}
	real, err := filepath.EvalSymlinks(where)
	if err != nil {
		return fmt.Errorf("cannot mount on %w", err)
	}
	if err := apart(where, real, path); err != nil {
		return err
	}
	if nonempty {
		return nil
	}
	if err := CheckEmpty(where); err != nil {
		// What is there may be a tree that another command has mounted meanwhile.
		return cmp.Or(checkFree(ctx, where), err)
	}
	return nil
}

// checkFree refuses to mount upon a tree.
func checkFree(ctx context.Context, where string) error {
	table, err := mounts.Mounts()
	if err != nil {
		return fmt.Errorf("reading the mount table: %w", err)
	}
	m, ok := table.At(place(ctx, where))
	switch {
	case !ok || m.FSType != FSType:
		return nil
	case IsDead(m):
		return fmt.Errorf("%s: a mount whose process has ended is in the way; 'pbsfs unmount %s' takes it away", where, where)
	}
	return fmt.Errorf("%s: %s %w", where, m.Source, fs.ErrMounted)
}

// apart refuses a mount point on, in or above the datastore: the mount would hide the
// datastore, or show the mount itself.
func apart(where, real, path string) error {
	if !filepath.IsAbs(path) {
		return nil // a datastore in a bucket is nowhere here
	}
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	switch {
	case real == path:
		return fmt.Errorf("%s: cannot mount a datastore on itself", where)
	case below(real, path):
		return fmt.Errorf("%s: cannot mount inside the datastore %s", where, path)
	case below(path, real):
		return fmt.Errorf("%s: cannot mount above the datastore %s, which would be hidden", where, path)
	}
	// Another path, such as that of a bind mount, may lead to the same directory.
	switch {
	case hasAncestor(real, path):
		return fmt.Errorf("%s: cannot mount on or inside the datastore %s", where, path)
	case hasAncestor(path, real):
		return fmt.Errorf("%s: cannot mount above the datastore %s, which may be hidden", where, path)
	}
	return nil
}

// hasAncestor reports whether dir, or a directory above it, is the same as ancestor,
// whatever its path. A directory that cannot be looked at is not: opening the datastore
// gives a better error.
func hasAncestor(dir, ancestor string) bool {
	want, err := os.Stat(ancestor)
	if err != nil {
		return false
	}
	for ; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, want) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}

// below reports whether path lies below dir. Both are absolute and clean.
func below(path, dir string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// CheckEmpty refuses a directory that is not empty.
func CheckEmpty(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot mount on %w", err)
	}
	defer f.Close()
	switch _, err = f.Readdirnames(1); {
	case err == nil:
		return fmt.Errorf("%s: not empty; -o nonempty mounts over what is there", dir)
	case errors.Is(err, io.EOF):
		return nil
	}
	return fmt.Errorf("cannot mount on %s: %w", dir, err)
}
