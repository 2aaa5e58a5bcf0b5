package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// diskCacheOptions say whether the metadata of archives is kept on disk for the next
// mount.
type diskCacheOptions struct {
	off       bool
	encrypted bool
}

func (o *diskCacheOptions) register(f *pflag.FlagSet) {
	f.BoolVar(&o.off, "no-disk-cache", false, "do not remember the metadata of archives on disk")
	f.BoolVar(&o.encrypted, "disk-cache-encrypted", false, "remember that of encrypted archives, too, as it was decrypted")
}

// systemCache is the directory in which root's programs keep their caches.
const systemCache = "/var/cache"

// dir returns the directory of the cache, "" if there is to be none.
func (o diskCacheOptions) dir(getenv func(string) string, uid int) string {
	base := getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) { // as the XDG specification demands
		switch base = getenv("HOME"); {
		case uid == 0:
			base = systemCache
		case filepath.IsAbs(base):
			base = filepath.Join(base, ".cache")
		default:
			return ""
		}
	}
	if o.off {
		return ""
	}
	return filepath.Join(base, "pbsfs", "metadata")
}

// ready makes the directory of the cache, and returns it if it is this user's own: what
// others can write would be believed. Without one, what was read is kept in memory alone.
func (o diskCacheOptions) ready(getenv func(string) string, uid int) (string, error) {
	dir := o.dir(getenv, uid)
	if dir == "" {
		return "", nil
	}
	err := os.MkdirAll(dir, 0o700)
	for _, d := range []string{filepath.Dir(dir), dir} {
		var st unix.Stat_t
		switch statErr := unix.Lstat(d, &st); {
		case statErr != nil:
			return "", errors.Join(err, &os.PathError{Op: "stat", Path: d, Err: statErr})
		case int(st.Uid) != uid:
			return "", fmt.Errorf("%s belongs to user %d, and is not used: %w", d, st.Uid, os.ErrPermission)
		case st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o022 != 0:
			return "", fmt.Errorf("%s can be written to by others, and is not used: %w", d, os.ErrPermission)
		}
	}
	return dir, err
}
