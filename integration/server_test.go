package integration

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	serverConfig     = "/etc/proxmox-backup"
	serverRun        = "/run/proxmox-backup"
	serverOperations = serverRun + "/active-operations/" + tank
)

// serverMachine makes this machine one with a Proxmox Backup Server that has a
// datastore, for a test that has /etc and /run to itself. The hosts are root's and
// that of the server's own user; what they are told is nothing but the cache.
func serverMachine(t *testing.T) (root, backup *host, store string) {
	t.Helper()
	id, err := user.Lookup("backup")
	if err != nil {
		t.Skipf("needs the user backup: %v", err)
	}
	uid, err := strconv.Atoi(id.Uid)
	must(t, err)
	defaultHosts(t)
	store = copyFixture(t, "ds-basic")
	tool(t, "chown", "-R", fmt.Sprintf("%d:%d", uid, uid), store)
	for _, dir := range []string{serverConfig, serverRun, serverRun + "/locks"} {
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.Chown(dir, uid, uid))
	}
	proxy, api := startActor(t, "proxy", serverRun), startActor(t, "api")
	for name, text := range map[string]string{
		serverConfig + "/datastore.cfg":  fmt.Sprintf("datastore: %s\n\tpath %s\n", tank, store),
		serverConfig + "/.datastore.lck": "",
		serverRun + "/proxy.pid":         fmt.Sprintln(proxy.pid),
		serverRun + "/api.pid":           fmt.Sprintln(api.pid),
	} {
		must(t, os.WriteFile(name, []byte(text), 0o660))
		must(t, os.Chown(name, uid, uid))
	}
	dir := tempDir(t)
	cache := subdir(t, dir, "cache")
	must(t, os.Chmod(cache, 0o777))
	vars := []string{"XDG_CACHE_HOME=" + cache}
	root = &host{t: t, dir: dir, vars: vars, own: "/run/pbsfs"}
	backup = &host{t: t, dir: dir, vars: vars, uid: uid, own: serverRun + "/pbsfs"}
	return root, backup, store
}

// countedByServer reports whether the server sees that a process reads.
func countedByServer(p process) error {
	text, err := os.ReadFile(serverOperations)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`{"pid":%d,"starttime":%s,"active_operations":{"read":1,`, p.pid, p.start); !strings.Contains(string(text), want) {
		return unlike("the server's file says %s, want %s", text, want)
	}
	return nil
}

// lockedForServer reports whether the server sees that a snapshot is being read.
func lockedForServer() error {
	files, err := filepath.Glob(serverRun + "/locks/" + tank + "/*")
	if err != nil || len(files) == 0 {
		return unlike("there is no lock, %v", err)
	}
	for _, f := range files {
		if free, err := flocked(f, unix.LOCK_EX); err == nil {
			free()
			return unlike("%s is not locked", f)
		}
	}
	return nil
}

// Beside a server, --run-dir moves what is our own. What the server has to see stays
// where the server looks.
func TestRunDirectoryDoesNotMoveOperationsFromTheServer(t *testing.T) {
	if !alone(t) {
		return
	}
	root, _, store := serverMachine(t)
	linked, bound, partly := filepath.Join(root.dir, "linked"), subdir(t, root.dir, "bound"), subdir(t, root.dir, "partly")
	must(t, os.Symlink(serverConfig, linked))
	must(t, os.Symlink(serverConfig+"/datastore.cfg", filepath.Join(partly, "datastore.cfg")))
	must(t, unix.Mount(serverConfig, bound, "", unix.MS_BIND, ""))
	for what, vars := range map[string][]string{
		"default":                    nil,
		"run directory":              {"PBSFS_RUN_DIR=%"},
		"link to the configuration":  {"PBSFS_RUN_DIR=%", "PBSFS_CONFIG_DIR=" + linked},
		"bind of the configuration":  {"PBSFS_RUN_DIR=%", "PBSFS_CONFIG_DIR=" + bound},
		"link to datastore.cfg":      {"PBSFS_RUN_DIR=%", "PBSFS_CONFIG_DIR=" + partly},
		"the configuration, by name": {"PBSFS_CONFIG_DIR=" + serverConfig + "/."},
	} {
		t.Run(what, func(t *testing.T) {
			own := subdir(t, tempDir(t), "run")
			h := *root
			h.t, h.own = t, root.own
			h.vars = append([]string(nil), root.vars...)
			for _, v := range vars {
				if strings.HasSuffix(v, "=%") {
					h.own = own
				}
				h.vars = append(h.vars, strings.ReplaceAll(v, "%", own))
			}
			m := h.mount(store)
			f, err := os.Open(m.path(conf))
			must(t, err)
			must(t, countedByServer(m.process))
			must(t, lockedForServer())
			h.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
			root.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
			must(t, f.Close())
			m.unmount()
		})
	}
	must(t, unix.Unmount(bound, unix.MNT_DETACH))
}

// The server's own user, who has no session and no journal, mounts as well.
func TestServersUserMounts(t *testing.T) {
	if !alone(t) {
		return
	}
	needUserMounts(t)
	root, backup, store := serverMachine(t)
	for what, own := range map[string]string{"default": "", "run directory": subdir(t, tempDir(t), "own")} {
		h := *backup
		if own != "" {
			must(t, os.Chown(own, h.uid, h.uid))
			h.own, h.vars = own, append([]string{"PBSFS_RUN_DIR=" + own}, backup.vars...)
		}
		m := h.unmounted(store)
		h.run("mount", tank, m.dir).want(t, 0) // the log goes where it may
		m.process = m.findServer()
		file := make(chan *os.File, 1)
		must(t, asUser(h.uid, func() error {
			f, err := os.Open(m.path(conf))
			file <- f
			return err
		}))
		must(t, countedByServer(m.process))
		must(t, lockedForServer())
		if s := root.status(); s.reads() != 1 || own == "" && (len(s.Mounts) != 1 || s.Mounts[0].PID != m.process.pid || len(s.Handles) != 1) {
			t.Errorf("%s: root's status: got %+v, want the mount and what is open in it", what, s)
		}
		root.run("maintenance", "set", tank, "offline", "--wait", "0s").want(t, 3)
		must(t, (<-file).Close())
		m.unmount()
	}
	if got := root.run("status", tank); strings.Contains(got.stdout, "problem") {
		t.Errorf("root's status afterwards: %s", got.stdout)
	}
}
