package catalog

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// stream reads a whole dynamic index's stream. The first key that opens its
// first chunk is used for all.
func stream(t *testing.T, path string, ring []*keys.Key) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.ParseDynamic(file)
	if err != nil {
		t.Fatal(err)
	}
	base := path
	for _, err := os.Stat(filepath.Join(base, ".chunks")); err != nil; _, err = os.Stat(filepath.Join(base, ".chunks")) {
		base = filepath.Dir(base)
	}
	var out []byte
	for i := range x.Len() {
		s := x.Span(i)
		encoded, err := os.ReadFile(filepath.Join(base, ".chunks", s.Digest.Prefix(), s.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		for _, key := range ring {
			if data, err = blob.DecodeChunk(nil, encoded, int(s.End-s.Off), s.Digest, blob.AnyKind, key); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, data...)
	}
	return out
}

// fixtureKeys opens the keys of the fixtures.
func fixtureKeys(t *testing.T, dir string) (ring []*keys.Key) {
	t.Helper()
	for file, passphrase := range map[string]string{
		"key-none.json": "", "key-s3.json": "", "key-scrypt.json": "correct horse", "key-pbkdf2.json": "pbkdf2 pass",
	} {
		text, err := os.ReadFile(filepath.Join(dir, "keys", file))
		if err != nil {
			t.Fatal(err)
		}
		f, err := keys.ParseFile(text)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := f.Open([]byte(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		key, err := keys.New(raw)
		if err != nil {
			t.Fatal(err)
		}
		ring = append(ring, key)
	}
	return ring
}

// Every catalog of real datastores, written again from what was read: the same
// bytes.
func TestRealCatalogsWrittenAgain(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	ring := fixtureKeys(t, dir)
	count := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Name() == ".chunks", e.Name() == "ds-s3": // whose chunks lie in a bucket
			return fs.SkipDir
		case e.Name() == name.Catalog.String():
			count++
			writeAgain(t, path, stream(t, path, ring))
		}
		return nil
	})
	if err != nil || count < 15 {
		t.Errorf("%d catalogs, %v, want more", count, err)
	}
	t.Logf("%d catalogs", count)
}

func writeAgain(t *testing.T, path string, want []byte) {
	t.Helper()
	r := bytes.NewReader(want)
	c, err := Open(r, int64(len(want)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var root table
	if err := root.read(r, c.root, c.size-pointerSize, maxBlock); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var buf bytes.Buffer
	e := NewEncoder(&buf)
	for {
		archive, _, more, err := root.next()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if !more {
			break
		}
		if !strings.HasSuffix(archive.Name, ".pxar.didx") {
			t.Errorf("%s: archive %q", path, archive.Name)
		}
		if err := copyArchive(e, c, r, archive.Name); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes(), want) {
		t.Errorf("%s: %d bytes, want the same %d", path, buf.Len(), len(want))
	}
}
