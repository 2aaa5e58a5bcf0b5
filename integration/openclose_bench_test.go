package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkOpenClose opens and closes small files, each in turn, 20,000 times in
// a round, in a mount that registers its operations and in one that does not.
// What counting costs is x-untracked, the former's time in proportion to the
// latter's.
func BenchmarkOpenClose(b *testing.B) {
	store := benchStore(b, "ds-nasty")
	all := []subject{openCloseSubject("tracked", store), openCloseSubject("untracked", store, "--untracked")}
	names := smallFiles(b, all[0])
	at := make(map[string]*served)
	for _, s := range all {
		at[s.name] = s.mount(b)
		_, err := openAll(at[s.name].path, names, len(names)) // what is known now stays known
		check(b, err)
	}
	alternate(b, all, "files/s", func(s subject) (time.Duration, int64) {
		start := time.Now()
		n, err := openAll(at[s.name].path, names, 20_000)
		check(b, err)
		return time.Since(start), n
	})
}

// openCloseSubject is a mount of the tree with many small files.
func openCloseSubject(name, store string, args ...string) subject {
	return subject{name, func(b *testing.B) *served {
		b.Helper()
		dir := scratch(b)
		h := &host{dir: dir, uid: os.Geteuid(), vars: []string{
			"PBSFS_CONFIG_DIR=" + filepath.Join(dir, "config"), "PBSFS_RUN_DIR=" + filepath.Join(dir, "run"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		}}
		at := filepath.Join(dir, "mnt")
		check(b, os.Mkdir(at, 0o755))
		start := time.Now()
		execute(b, h.command(append([]string{"mount", store, at, "--log", filepath.Join(dir, "log")}, args...)...))
		return newServed(b, filepath.Join(at, nasty), time.Since(start), func() error {
			return tryExecute(h.command("unmount", at))
		})
	}}
}

// openAll opens and closes files, the same ones again and again, until it has
// been done n times.
func openAll(tree string, names []string, n int) (int64, error) {
	for i := range n {
		f, err := os.Open(filepath.Join(tree, names[i%len(names)]))
		if err != nil {
			return int64(i), err
		}
		if err := f.Close(); err != nil {
			return int64(i), err
		}
	}
	return int64(n), nil
}
