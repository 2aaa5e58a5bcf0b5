package integration

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

const salvageTime = "2026-01-01T00:00:00Z"

// lossy is a file of a datastore of which one chunk is damaged.
type lossy struct {
	path   string // below the mount point
	truth  []byte
	off    int // the lost bytes
	end    int
	chunk  string // its file
	digest string
	raw    []byte // what was in it
}

func (l *lossy) ranges() string { return fmt.Sprintf("%d-%d", l.off, l.end-1) }

// salvaged returns the content with zeros.
func (l *lossy) salvaged() []byte {
	out := bytes.Clone(l.truth)
	clear(out[l.off:l.end])
	return out
}

func (l *lossy) bringBack(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile(l.chunk, l.raw, 0o644))
}

// lossyStore makes a datastore with an archive of each form, encrypted and not, and images,
// of each of which one chunk is damaged, and returns its host, with the key.
func lossyStore(t *testing.T) (dir string, h *host, args []string, all []*lossy) {
	t.Helper()
	h = newHost(t)
	s, key := storetest.New(t), storetest.NewKey(t, 5)
	big, image := make([]byte, 3000), make([]byte, 5*4096)
	fill := func(p []byte) []byte {
		for i := range p {
			p[i] = byte('!' + (i*7+i/93+len(all)*31)%90)
		}
		return p
	}
	add := func(sn *storetest.Snapshot, file string, truth []byte, list []name.Digest, off, end, at int) {
		chunk := filepath.Join(s.Dir, storetest.ChunkFile(list[at]))
		raw, err := os.ReadFile(chunk)
		must(t, err)
		all = append(all, &lossy{sn.Dir + "/" + file, bytes.Clone(truth), off, end, chunk, list[at].String(), raw})
	}
	for _, kind := range []string{"plain", "sealed"} {
		sn := s.Snapshot("host/"+kind, salvageTime)
		if kind == "sealed" {
			sn.Key = key
		}
		// Chunks of archives are cut every 200 bytes of the stream.
		root := storetest.Dir("", storetest.File("before", "whole"), storetest.File("big", string(fill(big))), storetest.File("after", "whole, too"))
		whole, _ := storetest.Archive(root, false)
		begin := bytes.Index(whole, big)
		add(sn, "root.pxar/big", big, sn.Pxar("root.pxar.didx", root), 1000-begin, 1200-begin, 5)
		root.Kids[1].Data = string(fill(big))
		_, half := storetest.Archive(root, true)
		begin = bytes.Index(half, big)
		_, payload := sn.Split("sys", root)
		add(sn, "sys.pxar/big", big, payload, 1000-begin, 1200-begin, 5)
		fill(image)
		clear(image[4096:8192])
		add(sn, "disk.img", image, sn.Fixed("disk.img.fidx", 4096, image), 3*4096, 4*4096, 3)
		sn.Finish()
	}
	for i, l := range all {
		if i%2 == 0 {
			remove(t, l.chunk)
		} else {
			flip(t, l.chunk)
		}
	}
	return s.Dir, h, []string{"--keyfile", h.rawKey(5)}, all
}

// A mount to salvage gives zeros exactly where data is lost, says where, and gives the data
// again as soon as it is there; another mount gives errors there, as ever.
func TestSalvageMount(t *testing.T) {
	needFUSE(t)
	dir, h, key, all := lossyStore(t)
	strict := h.mount(dir, key...)
	m := h.mount(dir, append([]string{"-o", "salvage"}, key...)...)
	value := make([]byte, 64<<10)
	for _, l := range all {
		path := m.path(l.path)
		if _, err := os.ReadFile(strict.path(l.path)); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: without salvage: %v, want %v", l.path, err, unix.EIO)
		}
		if names, err := xattrs(path); err != nil || string(names["user.pbs.damaged"]) != l.ranges() {
			t.Errorf("%s: attributes %q, %v, want the damaged ranges %s", l.path, names, err, l.ranges())
		}
		f := openFile(t, path)
		for range 2 {
			got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
			if err != nil || !bytes.Equal(got, l.salvaged()) {
				t.Errorf("%s: %v, or not exactly the lost bytes are zeros", l.path, err)
			}
		}
		dd := tool(t, "dd", "if="+path, "bs=1", fmt.Sprintf("skip=%d", l.off-3), "count=6", "status=none")
		if want := string(l.truth[l.off-3:l.off]) + "\x00\x00\x00"; dd != want {
			t.Errorf("%s: dd at the edge: %q, want %q", l.path, dd, want)
		}
		if n := len(m.logLines("zeros are served", l.digest, "path="+l.path, l.ranges())); n != 1 {
			t.Errorf("%s: %d lines in the log say what is lost, want 1", l.path, n)
		}
		if n := len(strict.logLines("zeros are served")); n != 0 {
			t.Errorf("%s: the log of the other mount has zeros in it", l.path)
		}
		l.bringBack(t)
		for what, f := range map[string]*os.File{"open": f, "opened anew": openFile(t, path), "without salvage": openFile(t, strict.path(l.path))} {
			got := make([]byte, len(l.truth))
			if n, err := pread(int(f.Fd()), got, 0); err != nil || n != len(got) || !bytes.Equal(got, l.truth) {
				t.Errorf("%s, %s: after the chunk is back: %v, or other bytes", l.path, what, err)
			}
		}
		if _, err := lgetxattr(path, "user.pbs.damaged", value); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s: after the chunk is back, it is said to be damaged: %v", l.path, err)
		}
	}
	for _, path := range []string{"host/plain/" + salvageTime + "/root.pxar/before", "host/plain/" + salvageTime + "/root.pxar", "host/plain"} {
		names, err := xattrs(m.path(path))
		_, gerr := lgetxattr(m.path(path), "user.pbs.damaged", value)
		if _, ok := names["user.pbs.damaged"]; ok || err != nil || !errors.Is(gerr, unix.ENODATA) {
			t.Errorf("%s, which is whole: %q, %v, %v", path, names, err, gerr)
		}
	}
	if n, err := lgetxattr(m.dir, "user.pbs.salvage", value); err != nil || string(value[:n]) != "yes" {
		t.Errorf("user.pbs.salvage of the root: %v, want yes", err)
	}
	if _, err := lgetxattr(strict.dir, "user.pbs.salvage", value); !errors.Is(err, unix.ENODATA) {
		t.Errorf("user.pbs.salvage of the other mount: %v, want none", err)
	}
	if text := h.run("status", dir).stdout; strings.Count(text, "SALVAGE") != 1 {
		t.Errorf("status does not say of one mount that it salvages: %s", text)
	}
}

// A chunk that the disk cannot read is lost; one that this user may not read is not.
func TestSalvageOfAFailingDisk(t *testing.T) {
	needRoot(t)
	dir, h, key, all := lossyStore(t)
	l := all[slices.IndexFunc(all, func(l *lossy) bool { return strings.HasSuffix(l.path, ".img") })]
	l.bringBack(t)
	weak, at := weakFile(t, l.chunk)
	bind(t, at, l.chunk)
	m := h.mount(dir, append([]string{"--salvage"}, key...)...)
	weak.set(true, false)
	got, err := os.ReadFile(m.path(l.path))
	if err != nil || !bytes.Equal(got, l.salvaged()) {
		t.Errorf("%v, or not exactly the lost bytes are zeros", err)
	}
	weak.set(false, false)
	eventually(t, "the disk being asked again", func() error {
		if got, err := os.ReadFile(m.path(l.path)); err != nil || !bytes.Equal(got, l.truth) {
			return unlike("%v, or other bytes", err)
		}
		return nil
	})
}

// cat writes what there is, names what is lost, and ends with 5.
func TestSalvageCat(t *testing.T) {
	dir, h, key, all := lossyStore(t)
	for _, l := range all {
		got := h.run(append([]string{"cat", dir, l.path, "--salvage"}, key...)...)
		if got.code != 5 || got.stdout != string(l.salvaged()) || !strings.Contains(got.stderr, l.path+": zeros instead of damaged data: bytes "+l.ranges()+"\n") {
			t.Errorf("%s: exit code %d, %d bytes, stderr %s", l.path, got.code, len(got.stdout), got.stderr)
		}
		got = h.run(append([]string{"cat", dir, l.path}, key...)...)
		if got.code != 5 || !strings.HasPrefix(string(l.truth), got.stdout) || len(got.stdout) == len(l.truth) {
			t.Errorf("%s without salvage: exit code %d, stdout %d bytes", l.path, got.code, len(got.stdout))
		}
	}
	at := "host/plain/" + salvageTime
	got := h.run("cat", dir, at+"/root.pxar/before", at+"/root.pxar/big", at+"/root.pxar/after", "--salvage")
	if got.code != 5 || !strings.HasPrefix(got.stdout, "whole") || !strings.HasSuffix(got.stdout, "whole, too") || strings.Count(got.stderr, "zeros instead") != 1 {
		t.Errorf("three files: exit code %d, stderr %s", got.code, got.stderr)
	}
	h.run("cat", dir, at+"/root.pxar/after", "--salvage").want(t, 0)
	h.run("cat", dir, at+"/disk.img.d/x", "--salvage").want(t, 5) // a decoder gets no zeros
	if got := h.run("cat", dir, at+"/root.pxar/after", "--salvage", "--cached-only"); got.code != 2 {
		t.Errorf("with --cached-only: exit code %d, want 2", got.code)
	}
}

// restore writes what there is, marks and names what has zeros, and never replaces a file
// by one that has some.
func TestSalvageRestore(t *testing.T) {
	dir, h, key, all := lossyStore(t)
	for i, l := range all {
		to := filepath.Join(h.dir, fmt.Sprint("to", i))
		args := append([]string{dir, filepath.Dir(l.path) + "/", to}, key...)
		if strings.HasSuffix(l.path, ".img") {
			args[1] = l.path
		}
		file := filepath.Join(to, filepath.Base(l.path))
		got := h.restore(5, append(args, "--salvage", "--verify")...)
		content, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(content, l.salvaged()) {
			t.Errorf("%s: %v, or not exactly the lost bytes are zeros", l.path, err)
		}
		want := problem{filepath.Base(l.path), "zeros", "bytes " + l.ranges()}
		if got.Zeros != 1 || got.Damaged+got.Differs != 0 || len(got.Problems) != 1 || problem(got.Problems[0]) != want || !got.Finished {
			t.Errorf("%s: %+v, want the problem %+v", l.path, got, want)
		}
		value := make([]byte, 100)
		if n, err := lgetxattr(file, "user.pbs.damaged", value); err != nil || string(value[:n]) != l.ranges() {
			t.Errorf("%s: the restored file is marked %q, %v", l.path, value[:max(n, 0)], err)
		}
		must(t, os.WriteFile(file, []byte("mine"), 0o644))
		got = h.restore(5, append(args, "--salvage", "--overwrite", "always")...)
		if content, err := os.ReadFile(file); err != nil || string(content) != "mine" || got.Damaged != 1 || got.Zeros != 0 {
			t.Errorf("%s: over a file that is there: %q, %v, %+v", l.path, content, err, got)
		}
		must(t, os.RemoveAll(to))
		got = h.restore(5, args...)
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) || got.Damaged != 1 || got.Zeros != 0 {
			t.Errorf("%s without salvage: %v, %+v", l.path, err, got)
		}
		l.bringBack(t)
		must(t, os.RemoveAll(to))
		h.restore(0, append(args, "--salvage")...)
	}
}

// problem is what restore --json says of one object.
type problem struct{ Path, Kind, Error string }

// To the standard output, and to an image's file, goes what there is as well.
func TestSalvageToOutputAndImage(t *testing.T) {
	dir, h, key, all := lossyStore(t)
	for _, l := range all {
		if strings.HasSuffix(l.path, ".img") {
			to := filepath.Join(h.dir, "image")
			got := h.run(append([]string{"restore", dir, l.path, "--to", to, "--salvage"}, key...)...)
			content, err := os.ReadFile(to)
			if got.code != 5 || err != nil || !bytes.Equal(content, l.salvaged()) || !strings.Contains(got.stderr, "bytes "+l.ranges()) {
				t.Errorf("%s: exit code %d, %v, stderr %s", l.path, got.code, err, got.stderr)
			}
			must(t, os.Remove(to))
			continue
		}
		got := h.run(append([]string{"restore", dir, filepath.Dir(l.path), "-", "--salvage"}, key...)...)
		if got.code != 5 || !strings.Contains(got.stderr, "/big: zeros instead of damaged data: bytes "+l.ranges()) {
			t.Errorf("%s: exit code %d, stderr %s", l.path, got.code, got.stderr)
		}
		found := false
		for r := tar.NewReader(strings.NewReader(got.stdout)); ; {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			must(t, err)
			if filepath.Base(e.Name) == "big" {
				content, err := io.ReadAll(r)
				found = err == nil && bytes.Equal(content, l.salvaged())
			}
		}
		if !found {
			t.Errorf("%s: the tar does not have the file with zeros", l.path)
		}
	}
}
