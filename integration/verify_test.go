package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// verified is a line of the output of verify --json, with the fields of all kinds of lines.
type verified struct {
	Event    string     `json:"event"`
	Chunk    string     `json:"chunk"`
	Snapshot string     `json:"snapshot"`
	File     string     `json:"file"`
	Problem  string     `json:"problem"`
	Path     string     `json:"path"`
	PathRaw  []byte     `json:"path_base64"`
	Kind     string     `json:"kind"`
	Ranges   [][2]int64 `json:"ranges"`
	Note     string     `json:"note"`

	Complete      bool  `json:"complete"`
	Snapshots     int64 `json:"snapshots"`
	Chunks        int64 `json:"chunks"`
	Sealed        int64 `json:"sealed_chunks"`
	Damaged       int64 `json:"damaged_chunks"`
	DamagedFiles  int64 `json:"damaged_files"`
	CostFiles     int64 `json:"cost_files"`
	Unreferenced  int64 `json:"unreferenced_chunks"`
	SealedBlobs   int64 `json:"sealed_blobs"`
	SkippedByTime int64 `json:"verified"`
}

// verify runs verify --json, and returns all lines; the last one is the summary.
func (h *host) verify(code int, store string, args ...string) (lines []verified, summary verified) {
	h.t.Helper()
	r := h.run(append([]string{"verify", store, "--json"}, args...)...)
	r.want(h.t, code)
	for s := bufio.NewScanner(strings.NewReader(r.stdout)); s.Scan(); {
		var v verified
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			h.t.Fatalf("%v: %s", err, s.Text())
		}
		lines = append(lines, v)
	}
	if len(lines) == 0 || lines[len(lines)-1].Event != "summary" {
		h.t.Fatalf("no summary: %s%s", r.stdout, r.stderr)
	}
	return lines[:len(lines)-1], lines[len(lines)-1]
}

// What a server has written, and nobody has damaged, is right: all of it if the keys are
// there, as far as that goes if not.
func TestVerifyFixtures(t *testing.T) {
	for _, f := range fixtures {
		store := fixture(t, f)
		before := listState(t, store)
		h := newHost(t)
		lines, all := h.verify(0, store, append(h.allKeys(), "--unreferenced")...)
		if len(lines) > 0 || !all.Complete || all.Snapshots == 0 || all.Sealed+all.SealedBlobs+all.Damaged+all.DamagedFiles != 0 {
			t.Errorf("%s: with all keys: %+v, %+v", f, lines, all)
		}
		_, part := h.verify(0, store)
		if hasLocked := f == "ds-crypt" || f == "ds-split"; part.Sealed > 0 != hasLocked || part.Chunks != all.Chunks {
			t.Errorf("%s: without keys: %+v", f, part)
		}
		if listState(t, store) != before {
			t.Errorf("%s: the datastore was changed", f)
		}
	}
}

// listState describes all files of a datastore by what a write would change.
func listState(t *testing.T, store string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, filepath.WalkDir(store, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			st.Atim = unix.Timespec{} // which this walk changes
		}
		fmt.Fprintln(&out, p, st.Ino, st.Mode, st.Nlink, st.Size, st.Atim, st.Mtim, st.Ctim)
		return nil
	}))
	return out.String()
}

// The files that verify names are those that a mount cannot read.
func TestVerifyNamesWhatAMountCannotRead(t *testing.T) {
	for _, d := range damages {
		switch d.name {
		case "chunk missing", "chunk empty", "chunk with a bit flipped", "chunk of the payload half missing", "payload half missing", "dynamic index corrupt", "blob corrupt", "manifest corrupt":
		default:
			continue // package verify has them all
		}
		t.Run(d.name, func(t *testing.T) {
			store := copyFixture(t, d.fixture)
			path := filepath.Join(store, d.file)
			if d.chunk {
				path = chunkPath(store, ownDigest(t, store, d.file))
			}
			d.how(t, path)
			h := newHost(t)
			snapshot := filepath.Dir(d.file)
			lines, sum := h.verify(5, store)
			var named []string
			for _, l := range lines {
				if l.Event == "cost" {
					if l.PathRaw != nil {
						l.Path = string(l.PathRaw)
					}
					named = append(named, l.Path)
				}
			}
			slices.Sort(named)
			named = slices.Compact(named)
			unread := unreadable(h.mount(store), snapshot)
			if len(named) == 0 || !slices.Equal(named, unread) {
				t.Errorf("verify names\n  %q\nthe mount cannot read\n  %q", named, unread)
			}
			if failed := h.unrestored(store, snapshot); !slices.Equal(named, failed) {
				t.Errorf("verify names\n  %q\nrestore fails on\n  %q", named, failed)
			}
			if want := d.chunk; (sum.Damaged == 1) != want || (sum.DamagedFiles == 1) == want {
				t.Errorf("got %d damaged chunks, %d damaged files", sum.Damaged, sum.DamagedFiles)
			}
		})
	}
}

// unrestored returns what cannot be restored of a snapshot, by path below a mount point.
func (h *host) unrestored(store, snapshot string) (out []string) {
	h.t.Helper()
	to := filepath.Join(tempDir(h.t), "target")
	h.t.Cleanup(func() { // of what nobody may remove; some files have no such flags
		_ = exec.Command("chattr", "-R", "-f", "-i", "-a", to).Run()
	})
	got := h.run("restore", store, snapshot, to, "--json")
	if got.code != 5 {
		h.t.Errorf("restore: got exit code %d, want 5; stderr: %s", got.code, got.stderr)
	}
	var report struct{ Problems []struct{ Path string } }
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		h.t.Fatalf("restore --json: %v in %q; stderr: %s", err, got.stdout, got.stderr)
	}
	for _, p := range report.Problems {
		out = append(out, filepath.Join(filepath.Dir(snapshot), p.Path))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unreadable returns what cannot be read of a snapshot of a mount. Files inside images
// are not looked at.
func unreadable(m *mount, snapshot string) (out []string) {
	m.t.Helper()
	top := m.path(snapshot)
	must(m.t, filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if d.IsDir() && strings.HasSuffix(p, ".img.d") {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			_, err = os.ReadFile(p)
		}
		if err != nil {
			out = append(out, strings.TrimPrefix(p, m.dir+"/"))
			if d.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	}))
	slices.Sort(out)
	return slices.Compact(out)
}

// For people the damage is listed by chunk, with the summary last.
func TestVerifyForPeople(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	digest := ownDigest(t, store, bravo+"/root.pxar.didx")
	remove(t, chunkPath(store, digest))
	h := newHost(t)
	r := h.run("verify", store, bravo)
	r.want(t, 5)
	for _, want := range []string{"chunk " + digest + ": missing from the datastore\n  " + bravo + "/root.pxar", ": bytes ", "\nchecked 1 snapshot, ", "\ndamaged: 1 chunk, 0 files of snapshots; it costs "} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("got no %q in\n%s", want, r.stdout)
		}
	}
	must(t, os.WriteFile(chunkPath(store, digest)+".0.bad", []byte("bad"), 0o644))
	if r = h.run("verify", store, bravo, "--max-files", "1"); !strings.Contains(r.stdout, "marked corrupt by a verification") {
		t.Errorf("got this of a chunk that is marked bad:\n%s", r.stdout)
	}
	h.run("verify", store, alpha).want(t, 0) // which does not have the chunk
}

func TestVerifyCommandLine(t *testing.T) {
	h, store := newHost(t), fixture(t, "ds-basic")
	for _, args := range [][]string{
		{"--sample", "5"},
		{"--sample", "0%"},
		{"--sample", "101%"},
		{"--sample", "NaN%"},
		{"--skip-verified", "0d"},
		{"--skip-verified", "-3d"},
		{"--skip-verified", "soon"},
		{"--skip-verified", "99999999999999999d"},
		{"--throttle", "fast"},
		{"--throttle", "0"},
		{"--throttle", "-1MiB/s"},
		{"--max-files=-1"},
		{"--unreferenced", "host"},
		{"--cached-only"},
	} {
		r := h.run(append([]string{"verify", store}, args...)...)
		r.want(t, 2)
		if last := args[min(1, len(args)-1)]; !strings.HasPrefix(last, "-") && last != "host" && !strings.Contains(r.stderr, last) {
			t.Errorf("%q: the error does not name it: %s", args, r.stderr)
		}
	}
	if r := h.run("verify", store, "host/alpa"); r.code != 1 || !strings.Contains(r.stderr, "alpha") {
		t.Errorf("no such path: got %d and %s", r.code, r.stderr)
	}
	h.run("verify", store, alpha+"/etc.pxar", alpha, "--sample", "50%", "--skip-verified", "2w", "--throttle", "1GiB/s").want(t, 0)
	h.run("datastore", "add", tank, store).want(t, 0)
	h.run("maintenance", "set", tank, "offline").want(t, 0)
	h.run("verify", tank).want(t, 4)
	h.run("usage", tank).want(t, 4)
}

// While it runs, a verification is one read operation. Interrupted, it prints what it has
// found; killed, it leaves nothing.
func TestVerifyIsAnOperation(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			h, store := newHost(t), copyFixture(t, "ds-nasty")
			before := listState(t, store)
			h.run("datastore", "add", tank, store).want(t, 0)
			cmd := h.command("verify", tank, "--throttle", "1KiB/s") // behind the first chunks, slow
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			must(t, cmd.Start())
			eventually(t, "the operation is counted", func() error {
				if n := len(h.operations()); n != 1 {
					return fmt.Errorf("%d processes have operations", n)
				}
				return nil
			})
			r := h.run("maintenance", "set", tank, "offline", "--wait", "0s")
			if r.code != 3 || !strings.Contains(r.stderr, "1 read, 0 write") {
				t.Errorf("beside it, maintenance: got %d and %s", r.code, r.stderr)
			}
			must(t, cmd.Process.Signal(sig))
			_ = cmd.Wait()
			if sig == syscall.SIGINT && (cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(stdout.String(), "interrupted: checked ")) {
				t.Errorf("interrupted: got %s and\n%s", cmd.ProcessState, stdout.String())
			}
			h.run("maintenance", "set", tank, "offline").want(t, 0)
			if listState(t, store) != before {
				t.Error("the datastore was changed")
			}
		})
	}
}

// A snapshot that is pruned while it is verified, and whose chunks are collected, is no
// damage.
func TestVerifyWhilePruned(t *testing.T) {
	h, store := newHost(t), copyFixture(t, "ds-basic")
	h.run("datastore", "add", tank, store).want(t, 0)
	own := make(map[string]bool) // chunks that only alpha's group has
	must(t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".chunks" {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(p, "idx") {
			for _, digest := range digestsOf(t, p) {
				mine := strings.HasPrefix(p, filepath.Join(store, "host/alpha"))
				if before, ok := own[digest]; !ok || before {
					own[digest] = mine
				}
			}
		}
		return err
	}))
	cmd := h.command("verify", tank)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(t, cmd.Start())
	eventually(t, "the operation is counted", func() error {
		if len(h.operations()) != 1 {
			return errors.New("no operation is counted")
		}
		return nil
	})
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	must(t, os.RemoveAll(filepath.Join(store, "host/alpha")))
	for digest, mine := range own {
		if mine {
			must(t, os.Remove(chunkPath(store, digest)))
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGCONT))
	if err := cmd.Wait(); err != nil || strings.Contains(stdout.String(), "damaged") {
		t.Errorf("got %v and\n%s%s", err, stdout.String(), stderr.String())
	}
}
