package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
)

// server does to a datastore what a Proxmox Backup Server does, with its locks. What it
// cannot do because somebody reads a snapshot, it does later, as the server.
type server struct {
	t        *testing.T
	store    string
	original string // the same datastore, which does not change
	m        *mount

	mu   sync.Mutex // guards done and busy
	done map[string]int
	busy map[string]int
}

// does counts what was done, or could not be because it is locked.
func (s *server) does(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.done[what]++
	case errors.Is(err, unix.EWOULDBLOCK):
		s.busy[what]++
	default:
		s.t.Errorf("%s: %v", what, err)
	}
}

// replaceFile writes a file as the server does: beside it, and then in its place.
func replaceFile(path string, data []byte) error {
	tmp := path + fmt.Sprintf(".tmp_%d", rand.Int())
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// copyFile copies a file of the original.
func (s *server) copyFile(rel string) error {
	data, err := os.ReadFile(filepath.Join(s.original, rel))
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(s.store, rel), data)
}

// prune removes a snapshot, file by file, and a sync brings it back, the manifest last.
func (s *server) prune(snapshot string) error {
	dir := filepath.Join(s.store, snapshot)
	free, err := flocked(dir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer free()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	again, err := flocked(dir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer again()
	files, err := os.ReadDir(filepath.Join(s.original, snapshot))
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != "index.json.blob" {
			if err := s.copyFile(filepath.Join(snapshot, f.Name())); err != nil {
				return err
			}
		}
	}
	return s.copyFile(filepath.Join(snapshot, "index.json.blob"))
}

// move moves a group or namespace elsewhere and back, with the locks of its snapshots.
func (s *server) move(dir string, snapshots ...string) error {
	for _, snapshot := range snapshots {
		free, err := flocked(filepath.Join(s.store, snapshot), unix.LOCK_EX)
		if err != nil {
			return err
		}
		defer free()
	}
	from, to := filepath.Join(s.store, dir), filepath.Join(s.store, ".moved-"+filepath.Base(dir))
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return os.Rename(to, from)
}

// note replaces a manifest by one with other notes and another verify state.
func (s *server) note(snapshot string) error {
	text, err := os.ReadFile(s.m.path(snapshot, "index.json"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EBUSY) {
		return unix.EWOULDBLOCK // it is being removed
	}
	if err != nil {
		return err
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	all["unprotected"] = map[string]any{
		"notes":        fmt.Sprint("note ", rand.Int()),
		"verify_state": map[string]any{"state": "ok", "upid": "UPID:pbs:00000001:00000001:00000001:65000000:verify:tank:root@pam:"},
	}
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	file, err := blob.Encoder{Compress: true}.Encode(nil, text)
	if err != nil {
		return err
	}
	dir, err := flocked(filepath.Join(s.store, snapshot), unix.LOCK_SH) // as a verification has it
	if err != nil {
		return err
	}
	defer dir()
	return replaceFile(filepath.Join(s.store, snapshot, "index.json.blob"), file)
}

// verify finds a chunk bad, and a backup brings it anew.
func (s *server) verify(chunk string) error {
	path := filepath.Join(s.store, chunk)
	if err := os.Rename(path, path+".0.bad"); err != nil {
		return err
	}
	time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // until the next backup
	if err := s.copyFile(chunk); err != nil {
		return err
	}
	return os.Remove(path + ".0.bad")
}

// collect marks all chunks and removes those that nobody refers to, as a garbage
// collection does, with the lock of the datastore that nobody else may have.
func (s *server) collect(chunks []string) error {
	lock, err := os.OpenFile(filepath.Join(s.store, ".lock"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("the lock of the datastore: %w", err)
	}
	garbage := filepath.Join(s.store, ".chunks/0000", strings.Repeat("0", 64))
	if err := os.MkdirAll(filepath.Dir(garbage), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(garbage, []byte("nobody refers to this"), 0o644); err != nil {
		return err
	}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	for _, c := range chunks {
		times := []unix.Timespec{now, {Nsec: unix.UTIME_OMIT}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(s.store, c), times, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return os.Remove(garbage)
}

// backup writes a snapshot. Its writer has the lock of the datastore with others.
func (s *server) backup(from string) error {
	got := s.m.host.run("snapshot", "create", "etc.pxar:"+from, s.store, "--id", "moving")
	if got.code != 0 {
		return fmt.Errorf("backup: %s", got.stderr)
	}
	return nil
}

// chunksOf returns the chunks of the datastore, as paths in it.
func chunksOf(t *testing.T, store string) (out []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(store, ".chunks/*/*"))
	must(t, err)
	for _, path := range found {
		rel, err := filepath.Rel(store, path)
		must(t, err)
		out = append(out, rel)
	}
	return out
}

// While a server prunes, collects garbage, verifies, moves and writes, fifty readers get
// right bytes, and no reader keeps the server from anything but what it reads.
func TestDatastoreMovesUnderReaders(t *testing.T) {
	needRoot(t)
	const victim = "vm/100/2023-11-17T05:46:40Z"
	original := fixture(t, "ds-basic")
	store := copyFixture(t, "ds-basic")
	snapshots := []string{alpha, vm100, victim, "ct/101/2023-11-15T23:13:20Z", "ns/prod/ns/db/host/beta/2023-11-15T13:39:15Z", filepath.Dir(images[1])}
	plain := mountAt(t, original)
	dir, files := copied(t, plain, snapshots...)
	plain.unmount()
	h := newHost(t)
	readers := 10
	if soaking() {
		readers = 50
	}
	m := h.mount(store, "--cache-size", "16MiB")
	s := &server{t: t, store: store, original: original, m: m, done: make(map[string]int), busy: make(map[string]int)}
	chunks, own := chunksOf(t, store), ownDigests(t, store, victim+"/drive-scsi0.img.fidx")
	from := subdir(t, tempDir(t), "from")
	writeFile(t, filepath.Join(from, "file"), []byte("what is being backed up"))

	group := startComparers(t, readers, m.dir, dir, files, victim)
	end := time.Now().Add(soakTime(t, 4))
	var all sync.WaitGroup
	deeds := map[string]func() error{
		"prune a snapshot":   func() error { return s.prune(alpha) },
		"prune another":      func() error { return s.prune("ct/101/2023-11-15T23:13:20Z") },
		"move a group":       func() error { return s.move("vm/100", vm100, victim) },
		"move a namespace":   func() error { return s.move("ns/prod/ns/db", "ns/prod/ns/db/host/beta/2023-11-15T13:39:15Z") },
		"replace a manifest": func() error { return s.note(filepath.Dir(images[1])) },
		"find a chunk bad":   func() error { return s.verify(chunkPath("", own[rand.IntN(len(own))])) },
		"write and collect":  func() error { return errors.Join(s.backup(from), s.collect(chunks)) },
	}
	for what, act := range deeds {
		all.Go(func() {
			for time.Now().Before(end) {
				s.does(what, act())
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // a server has other things to do
			}
		})
	}
	all.Wait()
	group.end()
	t.Logf("done: %v; not done because it was being read: %v", s.done, s.busy)
	for what := range deeds {
		if s.done[what] == 0 {
			t.Errorf("%s: never done", what)
		}
	}
	// All is as before: every file reads right.
	still := comparer{tree: m.dir, copy: dir, files: files}
	for _, file := range files {
		eventually(t, file+" being there again", func() error {
			f, err := os.Open(m.path(file))
			if err != nil {
				return err
			}
			return f.Close()
		})
		if err := still.once(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if !m.process.alive() {
		t.Error("the process has ended")
	}
}
