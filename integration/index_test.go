package integration

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// indexHeader is how long the header of an index is, of both kinds.
const indexHeader = 4096

// digestsOf returns the digests of the chunks that an index refers to, in its
// order.
func digestsOf(t *testing.T, index string) []string {
	t.Helper()
	text, err := os.ReadFile(index)
	must(t, err)
	size, skip := 32, 0
	if filepath.Ext(index) == ".didx" { // the end of each chunk comes first
		size, skip = 40, 8
	}
	var out []string
	for e := range slices.Chunk(text[indexHeader:], size) {
		out = append(out, hex.EncodeToString(e[skip:]))
	}
	return out
}

// chunkPath returns where a chunk is stored.
func chunkPath(store, digest string) string {
	return filepath.Join(store, ".chunks", digest[:4], digest)
}

// ownDigest returns the digest of one of the chunks of ownDigests.
func ownDigest(t *testing.T, store, index string) string {
	t.Helper()
	own := ownDigests(t, store, index)
	return own[len(own)/2] // the first and the last have what all the others hang on
}

// ownDigests returns the digests of the chunks that nothing but this index of the
// datastore refers to, and that once.
func ownDigests(t *testing.T, store, index string) []string {
	t.Helper()
	count := make(map[string]int)
	must(t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".chunks" {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(p, "idx") {
			for _, digest := range digestsOf(t, p) {
				count[digest]++
			}
		}
		return err
	}))
	own := slices.DeleteFunc(digestsOf(t, filepath.Join(store, index)), func(d string) bool { return count[d] != 1 })
	if len(own) == 0 {
		t.Fatalf("%s: no chunk of its own", index)
	}
	return own
}

// Ways to damage a file.

func remove(t *testing.T, path string) {
	t.Helper()
	must(t, os.Remove(path))
}

func halve(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()/2))
}

// flip changes one bit near the end of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	damaged := bytes.Clone(text)
	damaged[len(damaged)-9] ^= 0x10
	must(t, os.WriteFile(path, damaged, 0o644))
}
