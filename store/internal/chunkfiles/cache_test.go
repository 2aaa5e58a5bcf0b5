package chunkfiles

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/name"
)

const chunkSize = 1000

func digest(i int) name.Digest { return sha256.Sum256(fmt.Append(nil, i)) }

func data(i int) []byte { return bytes.Repeat([]byte{byte(i)}, chunkSize) }

func open(t *testing.T, dir string, chunks int64) *Cache {
	t.Helper()
	c := New(Options{Dir: dir, Limit: chunks * chunkSize, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(c.Close)
	return c
}

func (c *Cache) has(i int) bool {
	b, ok := c.Get(digest(i), nil)
	return ok && bytes.Equal(b, data(i))
}

// size returns the bytes of all files in a directory.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		n += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKeepsAndForgets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "cache")
	c, other := open(t, dir, 100), open(t, dir, 100)
	if c.has(1) {
		t.Error("an empty cache has a chunk")
	}
	c.Put(digest(1), data(1))
	if !other.has(1) || !c.has(1) {
		t.Error("the chunk is not there for both")
	}
	c.Forget(digest(1))
	if other.has(1) {
		t.Error("the chunk was not forgotten")
	}
	c.cleaner.Wait()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.Put(digest(2), data(2))
	if !c.has(2) {
		t.Error("nothing is kept after the directory was deleted")
	}
}

func TestDoesNotOutgrowItsLimit(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		c := open(t, dir, 32)
		c.Put(digest(i), data(i))
		c.Close()
		if n := size(t, dir); n > 34*chunkSize {
			t.Fatalf("%d bytes after %d chunks", n, i+1)
		}
	}
	if !open(t, dir, 32).has(299) {
		t.Error("the newest chunk is not there")
	}
}

// A scan of any length leaves what is used again and again.
func TestScan(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		c := open(t, dir, 32)
		c.Put(digest(i), data(i))
		if !c.has(i) {
			t.Fatalf("chunk %d is not there", i)
		}
		c.Close()
	}
	for i := range 300 {
		c := open(t, dir, 32)
		c.Put(digest(1000+i), data(i))
		c.Close()
	}
	c := open(t, dir, 32)
	for i := range 10 {
		if !c.has(i) {
			t.Errorf("chunk %d was scanned away", i)
		}
	}
}

func TestCleaningTakesWhatWasAbandoned(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100)
	left := filepath.Join(dir, once, "ab", "unfinished-1")
	fresh := filepath.Join(dir, once, "ab", "unfinished-2")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{left, fresh} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	c.Put(digest(1), data(1))
	c.Close()
	if _, err := os.Stat(left); err == nil {
		t.Error("the abandoned file is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("a file that may be in use: %v", err)
	}
}

func TestFullOrReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	var log strings.Builder
	c := New(Options{Dir: dir, Limit: 1 << 30, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for i := range 100 {
		c.Put(digest(i), data(i))
	}
	c.Close()
	kept := 0
	for i := range 100 {
		if b, ok := c.Get(digest(i), nil); ok {
			if !bytes.Equal(b, data(i)) {
				t.Errorf("chunk %d is wrong", i)
			}
			kept++
		}
	}
	if kept == 0 || kept == 100 {
		t.Errorf("%d chunks fit on a full disk", kept)
	}
	if n := strings.Count(log.String(), "not kept"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
	if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, 1<<20)
	c.Put(digest(200), data(200))
	if c.has(200) || !c.has(0) {
		t.Error("a read-only disk is of no use")
	}
}
