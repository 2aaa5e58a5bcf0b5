package cdc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
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

// Streams that real clients stored are cut again where those cut them: exactly
// where the hash alone decides, in all but a few places where their buffers had
// a say.
func TestEndsAreTheOfficialClients(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES is not set: not tested on streams of a real client")
	}
	list := openKeys(t, filepath.Join(dir, "keys"))
	exact, payload := new(score), new(score)
	for _, store := range []string{"ds-basic", "ds-nasty", "ds-split"} {
		root := filepath.Join(dir, store)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".didx") {
				return err
			}
			data, want := readStream(t, root, path, list)
			if !strings.HasSuffix(path, ".ppxar.didx") {
				compareEnds(t, exact, path, want, endsOf(t, data, averageOf(path), nil))
			} else if offs, ok := contents(data); ok { // nothing was put in whole
				compareEnds(t, payload, path, want, endsOf(t, data, averageOf(path), offs))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d ends, and of payload streams %d of %d", exact.same, exact.all, payload.same, payload.all)
	if exact.all < 150 || exact.same != exact.all || exact.extra > 0 {
		t.Errorf("%d of %d ends are the same, and %d more were found", exact.same, exact.all, exact.extra)
	}
	if payload.all < 100 || payload.all-payload.same > 2 || payload.extra > 2 {
		t.Errorf("payload streams: %d of %d ends are the same, and %d more were found", payload.same, payload.all, payload.extra)
	}
}

// score counts the ends of a real client that were found, and those that it
// does not have.
type score struct{ same, all, extra int }

func compareEnds(t *testing.T, s *score, path string, want, got []int64) {
	t.Helper()
	has := make(map[int64]bool)
	for _, end := range want {
		has[end] = true
	}
	same := 0
	for _, end := range got {
		if has[end] {
			same++
		}
	}
	s.same, s.all, s.extra = s.same+same, s.all+len(want), s.extra+len(got)-same
	if same != len(want) || same != len(got) {
		t.Logf("%s: %d ends, %d of the client's %d", path, len(got), same, len(want))
	}
}

// averageOf returns the average length that a stream was cut with: a few groups
// were written with the smallest one there is.
func averageOf(path string) int {
	switch {
	case filepath.Base(path) == name.Catalog.String():
		return 512 << 10
	case strings.Contains(path, "small-"), strings.Contains(path, "-small"):
		return 64 << 10
	}
	return 4 << 20
}

func endsOf(t *testing.T, data []byte, average int, offs []int64) (ends []int64) {
	t.Helper()
	c := New(bytes.NewReader(data), average)
	for _, off := range offs {
		c.Suggest(off)
	}
	end := int64(0)
	for {
		chunk, err := c.Next(nil)
		if errors.Is(err, io.EOF) {
			return ends
		}
		if err != nil {
			t.Fatal(err)
		}
		end += int64(len(chunk))
		ends = append(ends, end)
	}
}

// contents returns where the contents of files begin in a payload stream. It is
// not ok unless they follow each other without a gap, as in a first backup.
func contents(data []byte) (offs []int64, ok bool) {
	const header, item, tail = 16, 0x28147a1b0b7c1a25, 0x6c72b78b984c81b5
	for off := int64(header); off+header <= int64(len(data)); {
		kind, size := binary.LittleEndian.Uint64(data[off:]), binary.LittleEndian.Uint64(data[off+8:])
		switch {
		case kind == tail:
			return offs, off+header == int64(len(data))
		case kind != item:
			return nil, false
		}
		offs = append(offs, off)
		off += int64(size)
	}
	return nil, false
}

// readStream returns what a stream is, and where its chunks end.
func readStream(t *testing.T, root, path string, list []*keys.Key) (data []byte, ends []int64) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(name.Dynamic, file)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for i := range x.Len() {
		s := x.Span(i)
		text := s.Digest.String()
		encoded, err := os.ReadFile(filepath.Join(root, ".chunks", text[:4], text))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range append([]*keys.Key{nil}, list...) {
			var plain []byte
			if plain, err = blob.DecodeChunk(nil, encoded, int(s.End-s.Off), s.Digest, blob.AnyKind, key); err == nil {
				data = append(data, plain...)
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		ends = append(ends, s.End)
	}
	return data, ends
}

func openKeys(t *testing.T, dir string) (list []*keys.Key) {
	t.Helper()
	var passphrases map[string]string
	text, err := os.ReadFile(filepath.Join(dir, "passwords.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &passphrases); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"key-none.json", "key-scrypt.json", "key-pbkdf2.json"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		f, err := keys.ParseFile(text)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := f.Open([]byte(passphrases[file]))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		key, err := keys.New(raw)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, key)
	}
	return list
}
