package main

import (
	"path/filepath"

	"github.com/spf13/pflag"
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
