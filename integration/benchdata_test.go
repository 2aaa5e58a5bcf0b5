package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
			"PBSFS_CONFIG_DIR=" + filepath.Join(dir, "config"), "PBSFS_RUN_DIR=" + filepath.Join(dir, "run"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		}}
		at := filepath.Join(dir, "mnt")
		check(b, os.Mkdir(at, 0o755))
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

const manifestName = "index.json.blob"
