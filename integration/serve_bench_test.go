package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// listedEntries is how many entries the directory has that is listed.
const listedEntries = 10_000

// BenchmarkServeList lists a directory of 10,000 entries with their attributes: over the
// API, and by ls -l in a mount. What the API needs in proportion to ls is x-ls. When it is
// warm, the directory has been listed before; when it is cold, the server and the mount
// are new, and nothing is in the kernel's caches.
func BenchmarkServeList(b *testing.B) {
	dir := scratch(b)
	store, snap := manyEntries(b, dir)
	all := []subject{
		{"api", func(b *testing.B) *served { b.Helper(); return serveFor(b, dir, store) }},
		{"ls", func(b *testing.B) *served { b.Helper(); return mountFor(b, dir, store) }},
	}
	list := map[string]func(string) (int64, error){
		"api": func(socket string) (int64, error) { return listOverAPI(socket, snap) },
		"ls":  func(at string) (int64, error) { return listByLs(filepath.Join(at, snap.path, "many.pxar", "d")) },
	}
	b.Run("warm", func(b *testing.B) {
		at := make(map[string]*served)
		for _, s := range all {
			at[s.name] = s.mount(b)
			timed(b, list[s.name], at[s.name].path)
		}
		alternate(b, all, "", func(s subject) (time.Duration, int64) { return timed(b, list[s.name], at[s.name].path) })
	})
	b.Run("cold", func(b *testing.B) {
		needDropCaches(b)
		alternate(b, all, "", func(s subject) (time.Duration, int64) {
			at := s.mount(b)
			defer at.end()
			dropCaches(b)
			return timed(b, list[s.name], at.path)
		})
	})
}

// listedSnapshot is the snapshot that has the directory.
type listedSnapshot struct {
	path string // below a mount
	time int64
}

// benchHost is a host whose state lies in dir.
func benchHost(dir string) *host {
	return &host{dir: dir, uid: os.Geteuid(), vars: []string{
		"PBSFS_CONFIG_DIR=" + filepath.Join(dir, "config"), "PBSFS_RUN_DIR=" + filepath.Join(dir, "run"), "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
	}}
}

// manyEntries makes a datastore with a directory of many small files, and configures it.
func manyEntries(b *testing.B, dir string) (store string, snap listedSnapshot) {
	b.Helper()
	tree, h := filepath.Join(dir, "tree"), benchHost(dir)
	store = filepath.Join(dir, "store")
	for _, d := range []string{filepath.Join(tree, "d"), filepath.Join(store, ".chunks"), filepath.Join(dir, "config"), filepath.Join(dir, "run")} {
		check(b, os.MkdirAll(d, 0o755))
	}
	for i := range listedEntries {
		check(b, os.WriteFile(filepath.Join(tree, "d", fmt.Sprintf("a file with the number %05d", i)), []byte(strconv.Itoa(i)), 0o644))
	}
	execute(b, h.command("snapshot", "create", "many.pxar:"+tree, store, "--crypt-mode", "none", "--id", "many"))
	execute(b, h.command("datastore", "add", tank, store))
	made, err := filepath.Glob(filepath.Join(store, "host/many/2*"))
	check(b, err)
	if len(made) != 1 {
		b.Fatalf("got the snapshots %q, want 1", made)
	}
	at, err := time.Parse(time.RFC3339, filepath.Base(made[0]))
	check(b, err)
	return store, listedSnapshot{path: filepath.Join("host/many", filepath.Base(made[0])), time: at.Unix()}
}

// serveFor serves until end. The path is that of a Unix socket.
func serveFor(b *testing.B, dir, _ string) *served {
	b.Helper()
	socket := filepath.Join(dir, "socket")
	start := time.Now()
	cmd := benchHost(dir).command("serve", "--listen", "unix:"+socket)
	check(b, cmd.Start())
	check(b, within(patience, func() error {
		_, err := apiGet(socket, "version")
		return err
	}))
	return newServed(b, socket, time.Since(start), func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	})
}

// mountFor mounts until end.
func mountFor(b *testing.B, dir, store string) *served {
	b.Helper()
	at := filepath.Join(dir, "mnt")
	check(b, os.MkdirAll(at, 0o755))
	h := benchHost(dir)
	start := time.Now()
	execute(b, h.command("mount", store, at, "--log", filepath.Join(dir, "log")))
	return newServed(b, at, time.Since(start), func() error { return tryExecute(h.command("unmount", at)) })
}

// apiGet asks a server on a Unix socket.
func apiGet(socket, path string) ([]byte, error) {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	got, err := (&http.Client{Transport: tr}).Get("http://localhost" + apiBase + path)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err == nil && got.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, got.Status, body)
	}
	return body, err
}

// listOverAPI lists the directory, and counts the entries.
func listOverAPI(socket string, snap listedSnapshot) (int64, error) {
	p := params{"backup-type": "host", "backup-id": "many", "backup-time": strconv.FormatInt(snap.time, 10), "filepath": filepathOf("many.pxar.didx", "d")}
	text, err := apiGet(socket, "admin/datastore/"+tank+"/catalog?"+p.encode())
	if err != nil {
		return 0, err
	}
	var list struct {
		Data []struct{ Text string }
	}
	err = json.Unmarshal(text, &list)
	return int64(len(list.Data)), err
}

// listByLs lists the directory as people do, and counts the entries.
func listByLs(dir string) (int64, error) {
	text, err := output(exec.Command("ls", "-l", dir))
	return int64(bytes.Count(text, []byte("\n")) - 1), err // the first line is the total
}
