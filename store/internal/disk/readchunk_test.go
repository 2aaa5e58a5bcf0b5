package disk

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
	"github.com/pbsfs/pbsfs/store/name"
)

func TestReadChunk(t *testing.T) {
	dir := t.TempDir()
	d := name.Digest{0xab, 0xcd}
	path := filepath.Join(dir, ".chunks", d.Prefix(), d.String())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	read := func() ([]byte, error) { return root.ReadChunk(t.Context(), d, nil) }

	var missing *backend.MissingChunkError
	if _, err := read(); !errors.As(err, &missing) || missing.Bad != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path+".3.bad", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); !errors.As(err, &missing) || !strings.HasSuffix(missing.Bad, ".3.bad") {
		t.Errorf("marked corrupt: %v", err)
	}
	if err := os.WriteFile(path, []byte("stored"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); err != nil || !bytes.Equal(got, []byte("stored")) {
		t.Errorf("a file: %q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := root.ReadChunk(ended, d, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("for nobody: %v", err)
	}
	for what, place := range map[string]func() error{
		"an empty file": func() error { return os.WriteFile(path, nil, 0o600) },
		"a directory":   func() error { return os.Mkdir(path, 0o700) },
		"a link":        func() error { return os.Symlink("/etc/passwd", path) },
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := place(); err != nil {
			t.Fatal(err)
		}
		if _, err := read(); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v, want corrupt data", what, err)
		}
	}
}
