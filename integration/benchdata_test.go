package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
)

// A subject is one of several ways to reach the same files.
type subject struct {
	name  string
	mount func(b *testing.B) *served
}

// served is a subject while its files can be reached.
type served struct {
	path string        // of the files
	took time.Duration // for the mount to be there
	pid  int           // of the serving process, if pbsfs is that
	end  func()        // may be called twice
}

// scratch returns a directory on a disk: /tmp is often memory. It goes when the
// benchmark ends.
func scratch(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "pbsfs-bench-")
	check(b, err)
	b.Cleanup(func() {
		if os.Geteuid() != 0 { // a copied tree may have directories of any mode
			check(b, tryExecute(exec.Command("chmod", "-R", "u+rwX", dir)))
		}
		check(b, os.RemoveAll(dir))
	})
	return dir
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// have reports whether a program is installed, and says so when it is not.
func have(b *testing.B, name string) bool {
	b.Helper()
	_, err := exec.LookPath(name)
	if err != nil {
		b.Logf("%s is not installed", name)
	}
	return err == nil
}

// execute runs a program, whose output is of interest only when it fails.
func execute(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := tryExecute(cmd); err != nil {
		b.Fatal(err)
	}
}

func tryExecute(cmd *exec.Cmd) error {
	_, err := output(cmd)
	return err
}

// benchTimeout ends a program that hangs.
const benchTimeout = 2 * time.Minute

// output runs a program and returns what it printed. Complaints are of interest
// only when it fails.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	if err == nil {
		kill := time.AfterFunc(benchTimeout, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(stderr.String(), 5))
	}
	return stdout.Bytes(), err
}

// benchStore returns the path of a fixture that can be mounted.
func benchStore(b *testing.B, name string) string {
	b.Helper()
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		b.Skip("PBSFS_FIXTURES is not set: nothing to measure")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		b.Skipf("needs FUSE: %v", err)
	}
	store := filepath.Join(dir, name)
	if err := unix.Access(filepath.Join(store, ".chunks"), unix.R_OK|unix.X_OK); err != nil {
		b.Skipf("%s cannot be read: %v", name, err)
	}
	return store
}

// pbsfs is the subject that is measured: what lies at rel of a datastore.
func pbsfs(name, store, rel string) subject {
	return subject{name, func(b *testing.B) *served {
		b.Helper()
		dir := scratch(b)
		h := &host{dir: dir, uid: os.Geteuid(), vars: []string{
			"PBSFS_CONFIG_DIR=" + filepath.Join(dir, "config"), "PBSFS_RUN_DIR=" + filepath.Join(dir, "run"),
		}}
		at := filepath.Join(dir, "mnt")
		check(b, os.Mkdir(at, 0o755)) //nolint:gosec // a mount point
		start := time.Now()
		execute(b, h.command("mount", store, at, "--log", filepath.Join(dir, "log")))
		took := time.Since(start)
		s := newServed(b, filepath.Join(at, rel), took, func() error {
			return tryExecute(h.command("unmount", at))
		})
		s.pid = serverPID(b, filepath.Join(dir, "run"))
		return s
	}}
}

// newServed returns what is served until end, which the benchmark's end calls
// if nobody else does.
func newServed(b *testing.B, path string, took time.Duration, end func() error) *served {
	b.Helper()
	s := &served{path: path, took: took, end: sync.OnceFunc(func() {
		if err := end(); err != nil {
			b.Error(err)
		}
	})}
	b.Cleanup(s.end)
	return s
}

// serverPID returns the process that serves the only mount of a run directory.
func serverPID(b *testing.B, runDir string) int {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(runDir, "mounts", "*.json"))
	check(b, err)
	if len(files) != 1 {
		b.Fatalf("got %d records of mounts, want 1", len(files))
	}
	text, err := os.ReadFile(files[0])
	check(b, err)
	var r record
	check(b, json.Unmarshal(text, &r))
	return r.PID
}

// raw is what lies at path on a disk.
func raw(path string) subject {
	return subject{"raw", func(b *testing.B) *served {
		b.Helper()
		return newServed(b, path, 0, func() error { return nil })
	}}
}

// squashfuse is what lies at rel of a squashfs image.
func squashfuse(image, rel string) subject {
	return subject{"squashfuse", func(b *testing.B) *served {
		b.Helper()
		at, err := os.MkdirTemp(filepath.Dir(image), "mnt-")
		check(b, err)
		start := time.Now()
		execute(b, exec.Command("squashfuse", image, at))
		check(b, within(patience, func() error { return isMount(at) }))
		took := time.Since(start)
		return newServed(b, filepath.Join(at, rel), took, func() error {
			if os.Geteuid() == 0 {
				return unix.Unmount(at, 0)
			}
			return tryExecute(exec.Command("fusermount3", "-u", at))
		})
	}}
}

// isMount is nil when another file system is at the directory.
func isMount(dir string) error {
	var at, above unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &at), unix.Stat(filepath.Dir(dir), &above)); err != nil {
		return err
	}
	if at.Dev == above.Dev {
		return fmt.Errorf("%s is not mounted", dir)
	}
	return nil
}

// subjects returns the ways to reach what a datastore has at rel: through pbsfs,
// and as far as it can be had also copied to the disk, and in a squashfs.
func subjects(b *testing.B, store, rel string) []subject {
	b.Helper()
	out := []subject{pbsfs("pbsfs", store, rel)}
	from := out[0].mount(b)
	defer from.end()
	dir := scratch(b)
	if err := tryExecute(exec.Command("cp", "-a", from.path, dir)); err != nil {
		b.Logf("not compared with files on disk: %v", err) // device nodes need root
	} else {
		out = append(out, raw(filepath.Join(dir, filepath.Base(rel))))
	}
	inside := ""
	if info, err := os.Stat(from.path); err == nil && !info.IsDir() {
		inside = filepath.Base(rel)
	}
	if image, ok := squash(b, from.path); ok {
		out = append(out, squashfuse(image, inside))
	}
	return out
}

// squash makes a squashfs of a tree or a file, if it can.
func squash(b *testing.B, from string, args ...string) (string, bool) {
	b.Helper()
	if !have(b, "mksquashfs") || !have(b, "squashfuse") {
		return "", false
	}
	image := filepath.Join(scratch(b), "image")
	args = append([]string{from, image, "-comp", "zstd", "-no-progress"}, args...)
	execute(b, exec.Command("mksquashfs", args...))
	return image, true
}

// manySnapshots makes a datastore of n snapshots of one group, copies of one
// snapshot of ds-basic under other times. Their files other than the manifest
// are links.
func manySnapshots(b *testing.B, dir string, n int) string {
	b.Helper()
	from := benchStore(b, "ds-basic")
	store := filepath.Join(dir, fmt.Sprint(n))
	group := filepath.Join(store, filepath.Dir(vm100))
	check(b, os.MkdirAll(group, 0o755)) //nolint:gosec // as the server makes it
	execute(b, exec.Command("cp", "-a", filepath.Join(from, ".chunks"), store))
	execute(b, exec.Command("cp", "-a", filepath.Join(from, filepath.Dir(vm100), "owner"), group))

	first := filepath.Join(dir, "snapshot")
	if _, err := os.Stat(first); errors.Is(err, fs.ErrNotExist) {
		execute(b, exec.Command("cp", "-a", filepath.Join(from, vm100), first))
	}
	m := readManifest(b, filepath.Join(first, manifestName))
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at := start.Add(time.Duration(i) * time.Hour)
		to := filepath.Join(group, at.Format(time.RFC3339))
		check(b, linkAll(first, to))
		m["backup-time"] = at.Unix()
		writeManifest(b, filepath.Join(to, manifestName), m)
	}
	return store
}

// linkAll makes a directory of the same files as another one, without its
// manifest.
func linkAll(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil { //nolint:gosec // as the server makes it
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == manifestName {
			continue
		}
		if err := os.Link(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

const manifestName = "index.json.blob"

func readManifest(b *testing.B, path string) map[string]any {
	b.Helper()
	encoded, err := os.ReadFile(path)
	check(b, err)
	text, err := blob.Decode(nil, encoded, 1<<20, blob.MustPlain, nil)
	check(b, err)
	numbers := json.NewDecoder(strings.NewReader(string(text)))
	numbers.UseNumber()
	var m map[string]any
	check(b, numbers.Decode(&m))
	return m
}

// writeManifest writes a manifest as a blob that is neither compressed nor
// encrypted: magic, CRC of the data, data.
func writeManifest(b *testing.B, path string, m map[string]any) {
	b.Helper()
	text, err := json.Marshal(m)
	check(b, err)
	encoded := []byte("\x42\xab\x38\x07\xbe\x83\x70\xa1")
	encoded = binary.LittleEndian.AppendUint32(encoded, crc32.ChecksumIEEE(text))
	check(b, os.WriteFile(path, append(encoded, text...), 0o644)) //nolint:gosec // as the server makes it
}
