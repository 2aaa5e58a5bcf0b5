package chunkfiles

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// abandoned is the age from which on a temporary file belongs to nobody.
const abandoned = time.Hour

// kept is a file of the cache.
type kept struct {
	path string
	size int64
	used time.Time
}

// clean deletes files until the cache is well below its limit. If another process is doing
// so, it does nothing.
func (c *Cache) clean() {
	lock, err := os.OpenFile(filepath.Join(c.opts.Dir, "cleaning"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	target := c.opts.Limit - c.opts.Limit/16
	often, seldom := c.files(again), c.files(once)
	often = shrink(often, target/4*3)
	shrink(seldom, target-total(often))
}

// files returns the files of a class, and deletes what was abandoned.
func (c *Cache) files(class string) []kept {
	var out []kept
	dirs, err := os.ReadDir(filepath.Join(c.opts.Dir, class))
	if err != nil {
		return nil
	}
	for _, dir := range dirs {
		path := filepath.Join(c.opts.Dir, class, dir.Name())
		entries, err := os.ReadDir(path)
		if err != nil {
			continue
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if strings.HasPrefix(e.Name(), strings.TrimSuffix(unfinished, "*")) && time.Since(info.ModTime()) > abandoned {
				_ = os.Remove(filepath.Join(path, e.Name()))
				continue
			}
			out = append(out, kept{filepath.Join(path, e.Name()), info.Size(), info.ModTime()})
		}
	}
	return out
}

func total(files []kept) (n int64) {
	for _, f := range files {
		n += f.size
	}
	return n
}

// shrink deletes the files that were used longest ago, until the rest is no more than
// limit bytes, and returns the rest.
func shrink(files []kept, limit int64) []kept {
	slices.SortFunc(files, func(a, b kept) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for n := total(files); n > limit && len(files) > 0; files = files[1:] {
		_ = os.Remove(files[0].path)
		n -= files[0].size
	}
	return files
}
