package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTreeEqualsTruth(t *testing.T) {
	needRoot(t)
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			m := mountAt(t, fixture(t, name))
			checkTruth(t, m.dir, truth(t, name))
		})
	}
}

// checkTruth compares a mounted datastore with what is known about it.
func checkTruth(t *testing.T, root string, all []archive) {
	t.Helper()
	compared := 0
	for _, a := range all {
		if locked(a) {
			checkLocked(t, root, a)
			continue
		}
		compared++
		reportDifferences(t, a.name, compare(filepath.Join(root, a.name), a))
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

// checkLocked checks an archive whose key nobody gave: it is listed, and cannot
// be entered or opened.
func checkLocked(t *testing.T, root string, a archive) {
	t.Helper()
	path := filepath.Join(root, a.name)
	names, err := readNames(filepath.Dir(path))
	if err != nil {
		t.Errorf("%s: %v", a.snapshot(), err)
	}
	listed := false
	for _, n := range names {
		listed = listed || n == filepath.Base(path)
	}
	if !listed {
		t.Errorf("%s: not listed", a.name)
	}
	var st unix.Stat_t
	if err := lstat(path, &st); err != nil {
		t.Errorf("%s: %v", a.name, err)
		return
	}
	_, err = readNames(path)
	wantErrno(t, "opening "+a.name+" without its key", err, unix.EACCES)
	if !a.isTree() {
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("%s: got mode %o, want a regular file", a.name, st.Mode)
		}
		if filepath.Ext(a.name) == ".img" && st.Size != a.entries[0].Size {
			t.Errorf("%s: got size %d, want %d", a.name, st.Size, a.entries[0].Size)
		}
		return
	}
	if st.Mode != unix.S_IFDIR|0o500 {
		t.Errorf("%s: got mode %o, want %o", a.name, st.Mode, unix.S_IFDIR|0o500)
	}
	made, err := time.Parse(time.RFC3339, filepath.Base(a.snapshot()))
	must(t, err)
	if st.Mtim.Sec != made.Unix() {
		t.Errorf("%s: got mtime %d, want the time of the backup, %d", a.name, st.Mtim.Sec, made.Unix())
	}
	err = lstat(filepath.Join(path, "etc"), &st)
	wantErrno(t, "entering "+a.name+" without its key", err, unix.EACCES)
}

func TestTwoMountsAtOnce(t *testing.T) {
	needRoot(t)
	h, store, all := newHost(t), fixture(t, "ds-basic"), truth(t, "ds-basic")
	mounts := []*mount{h.mount(store), h.mount(store)}
	found := make([][]difference, len(mounts))
	var both sync.WaitGroup
	for i, m := range mounts {
		both.Go(func() {
			for _, a := range all {
				found[i] = append(found[i], compare(m.path(a.name), a)...)
			}
		})
	}
	both.Wait()
	for i := range mounts {
		reportDifferences(t, fmt.Sprintf("mount %d", i+1), found[i])
	}
}

// A private mount of an ordinary user has no permission checks: who may read
// the chunks may read what is made of them.
func TestPrivateMountOfUser(t *testing.T) {
	h := newUserHost(t)
	needUserMounts(t)
	for _, name := range []string{"ds-basic", "ds-nasty"} {
		t.Run(name, func(t *testing.T) {
			store := copyFixture(t, name)
			tool(t, "chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), store)
			h := &host{t: t, dir: h.dir, uid: h.uid, vars: h.vars}
			m := h.mount(store)
			var found []difference
			archives := truth(t, name)
			must(t, asUser(nobody, func() error {
				c := comparison{}
				for _, a := range archives {
					found = append(found, c.run(m.path(a.name), a)...)
				}
				return nil
			}))
			reportDifferences(t, name, found)
			_, err := os.Stat(m.path("host"))
			wantErrno(t, "another user, root, in a private mount", err, unix.EACCES)
		})
	}
}
