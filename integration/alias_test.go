package integration

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// One directory is one datastore, whatever it was called when it was mounted.
func TestDatastoreMountedByPathObeysItsEntry(t *testing.T) {
	store := fixture(t, "ds-basic")
	m := mountAt(t, store)
	h := m.host
	f, err := os.Open(m.path(conf))
	must(t, err)
	defer f.Close()
	h.run("datastore", "add", tank, store).want(t, 0)

	refused := h.run("maintenance", "set", tank, "offline", "--wait", "100ms")
	refused.want(t, 3)
	refused.says(t, m.path(conf))
	if config := h.config(); strings.Contains(config, "offline") {
		t.Errorf("a refused mode is in datastore.cfg: %q", config)
	}
	must(t, f.Close())
	h.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	_, err = os.Open(m.path(conf))
	wantErrno(t, "opening a file under the name made from the path", err, unix.EHOSTDOWN)
	h.run("maintenance", "clear", tank).want(t, 0)
	must(t, opens(m.path(conf)))
}

func TestDirectoryIsConfiguredOnce(t *testing.T) {
	store := fixture(t, "ds-basic")
	h := newHost(t)
	h.run("datastore", "add", tank, store).want(t, 0)
	again := h.run("datastore", "add", "other", store)
	again.want(t, 1)
	again.says(t, tank)
}

// A configuration written by hand may have two entries for one directory.
func TestEntriesOfOneDirectoryCountTogether(t *testing.T) {
	store := fixture(t, "ds-basic")
	m := newTank(t, store)
	h := m.host
	replace(t, h.configFile(), h.config()+"\ndatastore: other\n\tpath "+store+"/\n")
	f, err := os.Open(m.path(conf))
	must(t, err)
	h.run("maintenance", "set", "other", "offline", "--wait", "100ms").want(t, 3)
	must(t, f.Close())
	h.run("maintenance", "set", "other", "offline", "--wait", patience.String()).want(t, 0)
	_, err = os.Open(m.path(conf))
	wantErrno(t, "opening a file under the other name", err, unix.EHOSTDOWN)
	h.run("maintenance", "clear", "other").want(t, 0)
}

// An entry that was renamed under a mount counts for it by its new name; one that
// has gone leaves it refusing what is new, and saying so.
func TestMountWhoseEntryWasRenamed(t *testing.T) {
	store := fixture(t, "ds-basic")
	m := newTank(t, store)
	h := m.host
	f, err := os.Open(m.path(conf))
	must(t, err)
	defer f.Close()
	replace(t, h.configFile(), strings.Replace(h.config(), tank, "renamed", 1))
	refused := h.run("maintenance", "set", "renamed", "offline", "--wait", "0s")
	refused.want(t, 3)
	refused.says(t, m.path(conf))
	h.run("datastore", "remove", "renamed").want(t, 3)
	must(t, f.Close())
	h.run("maintenance", "set", "renamed", "offline", "--wait", patience.String()).want(t, 0)
	_, err = os.Open(m.path(conf))
	wantErrno(t, "opening a file under the name that the entry has now", err, unix.EHOSTDOWN)

	replace(t, h.configFile(), "")
	eventually(t, "the status that says so", func() error {
		if got := h.run("status"); !strings.Contains(got.stdout, "UNLISTED") || !strings.Contains(got.stdout, m.path()) {
			return unlike("got %s", got.stdout)
		}
		return nil
	})
	_, err = os.Open(m.path(conf))
	wantErrno(t, "opening a file of an entry that has gone", err, unix.EHOSTDOWN)
	h.run("datastore", "add", "again", store).want(t, 0)
	eventually(t, "files opening once it is listed again", func() error { return opens(m.path(conf)) })
}

// unmount takes the way to a mount point that mount took.
func TestUnmountFollowsTheLinkThatMountFollowed(t *testing.T) {
	store := fixture(t, "ds-basic")
	h := newHost(t)
	dir := tempDir(t)
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	must(t, os.Symlink("mnt", dir+"/link"))
	for _, where := range []string{"link", "link/"} {
		h.run("mount", store, dir+"/"+where).want(t, 0)
		h.run("unmount", dir+"/"+where).want(t, 0)
	}
}
