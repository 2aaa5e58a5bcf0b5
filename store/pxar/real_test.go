package pxar

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// stream reads a whole dynamic index's stream. The first key that opens a chunk
// is taken.
func stream(t *testing.T, path string, ring []*keys.Key) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	must(t, err)
	x, err := index.ParseDynamic(file)
	must(t, err)
	base := path
	for _, err := os.Stat(filepath.Join(base, ".chunks")); err != nil; _, err = os.Stat(filepath.Join(base, ".chunks")) {
		base = filepath.Dir(base)
	}
	var out []byte
	for i := range x.Len() {
		s := x.Span(i)
		encoded, err := os.ReadFile(filepath.Join(base, ".chunks", s.Digest.Prefix(), s.Digest.String()))
		must(t, err)
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
		"key-none.json": "", "key-scrypt.json": "correct horse", "key-pbkdf2.json": "pbkdf2 pass",
	} {
		text, err := os.ReadFile(filepath.Join(dir, "keys", file))
		must(t, err)
		f, err := keys.ParseFile(text)
		must(t, err)
		raw, err := f.Open([]byte(passphrase))
		must(t, err)
		key, err := keys.New(raw)
		must(t, err)
		ring = append(ring, key)
	}
	return ring
}

// Every archive of real datastores, written again from what was read: the same
// bytes. Where content was taken over from an earlier archive, the payload
// stream cannot be; then only the archive itself is.
func TestRealArchivesWrittenAgain(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	ring := fixtureKeys(t, dir)
	unified, split, whole := 0, 0, 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if e != nil && (e.Name() == ".chunks" || e.Name() == "ds-s3") { // whose chunks lie in a bucket
				return fs.SkipDir
			}
			return err
		}
		f, err := name.ParseFile(e.Name())
		if err != nil {
			return nil
		}
		in := new(archived)
		switch f.Content() {
		case name.Pxar:
			unified++
		case name.PxarMeta:
			split++
			payload, _ := f.Payload()
			in.payload.Write(stream(t, filepath.Join(filepath.Dir(path), payload.String()), ring))
		default:
			return nil
		}
		in.meta.Write(stream(t, path, ring))
		if writeAgain(t, path, in) {
			whole++
		}
		return nil
	})
	if err != nil || unified < 20 || split < 10 || whole < 25 {
		t.Errorf("%d unified, %d split, %d of them with payloads, %v, want more", unified, split, whole, err)
	}
	t.Logf("%d unified and %d split archives, %d of them with all payloads", unified, split, whole)
}

func writeAgain(t *testing.T, path string, in *archived) (whole bool) {
	t.Helper()
	a, _ := mustOpen(t, in.meta.Bytes())
	out := recode(t, a, in, false)
	if whole = bytes.Equal(out.payload.Bytes(), in.payload.Bytes()); !whole {
		out = recode(t, a, in, true)
	}
	if !bytes.Equal(out.meta.Bytes(), in.meta.Bytes()) {
		t.Errorf("%s: %d bytes, want the same %d, from %d on", path, out.meta.Len(), in.meta.Len(), differ(out.meta.Bytes(), in.meta.Bytes()))
	}
	return whole
}

// differ returns where a and b begin to differ.
func differ(a, b []byte) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}
