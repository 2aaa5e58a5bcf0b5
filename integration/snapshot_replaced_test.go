package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// versionTime is when both versions of a snapshot were taken.
var versionTime = time.Unix(1_700_000_000, 0)

// versionFiles are what a version has, all with the version's content.
var versionFiles = []string{"split.pxar/file", "whole.pxar/file", "disk.img", "a.conf"}

// versionOf writes a datastore of one snapshot. Its versions differ in nothing
// but what is in the files.
func versionOf(t *testing.T, content []byte) (dir, snapshot string) {
	t.Helper()
	dir = newStore(t, func(ctx context.Context, _ string, w *store.Writer) error {
		group, err := name.NewGroup(name.Namespace{}, name.Host, "x")
		must(t, err)
		s, err := store.BeginSnapshot(ctx, w, group, store.SnapshotOptions{Time: versionTime})
		must(t, err)
		snapshot = s.Name().String()
		stream := func(file string) *store.StreamWriter {
			f, err := name.ParseFile(file)
			must(t, err)
			out, err := s.Stream(ctx, f)
			must(t, err)
			return out
		}
		meta, payload, whole := stream("split.mpxar.didx"), stream("split.ppxar.didx"), stream("whole.pxar.didx")
		root := &pxar.Metadata{Mode: unix.S_IFDIR | 0o755}
		split, err := pxar.NewSplitEncoder(meta, payload, nil, root)
		must(t, err)
		unified, err := pxar.NewEncoder(whole, root)
		must(t, err)
		for _, e := range []*pxar.Encoder{split, unified} {
			_, err := e.AddFile("file", &pxar.Metadata{Mode: unix.S_IFREG | 0o644}, int64(len(content)), bytes.NewReader(content))
			must(t, errors.Join(err, e.Close()))
		}
		must(t, errors.Join(payload.Close(), meta.Close(), whole.Close()))
		image, err := name.ParseFile("disk.img.fidx")
		must(t, err)
		_, err = s.Image(ctx, image, bytesImage{bytes.NewReader(content)}, int64(len(content)), nil)
		must(t, err)
		conf, err := name.ParseFile("a.conf.blob")
		must(t, err)
		must(t, s.Blob(conf, content))
		return s.Finish(ctx)
	})
	return dir, snapshot
}

// bytesImage is an image without holes.
type bytesImage struct{ io.ReaderAt }

func (bytesImage) NextData(off int64) (int64, error) { return off, nil }

// A snapshot that was removed and written again under the same time is another
// one: no byte of the old one is served as the new one's, and in between nothing
// looks like damage.
func TestReplacedSnapshots(t *testing.T) {
	needFUSE(t)
	a, b := bytes.Repeat([]byte("old "), 50_000), bytes.Repeat([]byte("new "), 50_000)
	dir, snapshot := versionOf(t, a)
	other, _ := versionOf(t, b)
	if equalFiles(t, filepath.Join(dir, snapshot, "split.mpxar.didx"), filepath.Join(other, snapshot, "split.mpxar.didx")) != true {
		t.Fatal("the metadata differ: this tests nothing")
	}
	tool(t, "cp", "-a", other+"/.chunks/.", dir+"/.chunks")
	m := mountAt(t, dir)
	var open []*os.File
	for _, file := range versionFiles {
		path := m.path(snapshot, file)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, a) {
			t.Fatalf("%s: %.8q, %v", file, got, err)
		}
		f, err := os.Open(path)
		must(t, err)
		defer f.Close()
		open = append(open, f)
	}
	must(t, os.RemoveAll(filepath.Join(dir, snapshot)))
	tool(t, "cp", "-a", filepath.Join(other, snapshot), filepath.Dir(filepath.Join(dir, snapshot)))
	for i, file := range versionFiles {
		must(t, within(patience, func() error {
			got, err := os.ReadFile(m.path(snapshot, file))
			switch {
			case err != nil && !errors.Is(err, syscall.ESTALE) && !errors.Is(err, os.ErrNotExist):
				t.Fatalf("%s: %v", file, err)
			case err == nil && !bytes.Equal(got, a) && !bytes.Equal(got, b):
				t.Fatalf("%s: neither the old nor the new one: %.8q, %d bytes", file, got, len(got))
			case err != nil || !bytes.Equal(got, b):
				return errors.New(file + " is not the new one")
			}
			return nil
		}))
		got := make([]byte, len(a))
		n, err := open[i].ReadAt(got, 0)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ESTALE) || !bytes.Equal(got[:n], a[:n]) {
			t.Errorf("%s, opened before: %.8q, %v", file, got[:n], err)
		}
	}
	if lines := m.logLines("cannot be served"); len(lines) > 0 {
		t.Errorf("the log tells of damage: %q", lines)
	}
}

func equalFiles(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	must(t, err)
	y, err := os.ReadFile(b)
	must(t, err)
	return bytes.Equal(x[4096:], y[4096:]) // the header has a time and a UUID
}
