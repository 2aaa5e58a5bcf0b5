package integration

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// numbers are what a process shows to Prometheus, by name and labels.
type numbers map[string]float64

// numbersAt asks for the numbers at a Unix socket.
func numbersAt(t *testing.T, socket string) numbers {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	r, err := client.Get("http://localhost/metrics")
	must(t, err)
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("the numbers: %s", r.Status)
	}
	out := make(numbers)
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		must(t, err)
		out[line[:i]] = v
	}
	return out
}

// wants checks some of the numbers.
func (n numbers) wants(t *testing.T, want numbers) {
	t.Helper()
	for name, v := range want {
		if got, ok := n[name]; !ok || got != v {
			t.Errorf("%s: got %v (there: %t), want %v", name, got, ok, v)
		}
	}
}

func TestMetricsOfAMount(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	store := fixture(t, "ds-basic")
	h.run("datastore", "add", tank, store).want(t, 0)
	socket := filepath.Join(h.dir, "metrics.sock")
	m := h.mount(tank, "--metrics", "unix:"+socket)
	before := numbersAt(t, socket)
	before.wants(t, numbers{
		`pbsfs_datastore_up{datastore="tank"}`:                           1,
		`pbsfs_maintenance_mode{datastore="tank",mode="none"}`:           1,
		`pbsfs_reads_total{datastore="tank"}`:                            0,
		`pbsfs_holders{datastore="tank"}`:                                0,
		`pbsfs_errors_total{datastore="tank",kind="damage"}`:             0,
		`pbsfs_mount_info{datastore="tank",mountpoint="` + m.dir + `"}`:  1,
		`pbsfs_active_operations{datastore="tank",operation="write"}`:    0,
		`pbsfs_chunk_load_duration_seconds_count{datastore="tank"}`:      0,
		`pbsfs_verified_bytes_total{datastore="tank"}`:                   0,
		`pbsfs_readahead_chunks_total{datastore="tank",result="wasted"}`: 0,
	})
	file := m.path(filepath.FromSlash(alpha), "index.json")
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	manifest, err := os.ReadFile(file)
	must(t, err)
	numbersAt(t, socket).wants(t, numbers{`pbsfs_read_bytes_total{datastore="tank"}`: float64(len(manifest))})
	readAllFiles(t, m.path(alpha))
	during := numbersAt(t, socket)
	during.wants(t, numbers{
		`pbsfs_holders{datastore="tank"}`:                            1,
		`pbsfs_active_operations{datastore="tank",operation="read"}`: 1,
		`pbsfs_locked_snapshots{datastore="tank"}`:                   1,
	})
	for _, name := range []string{
		`pbsfs_reads_total{datastore="tank"}`, `pbsfs_inodes{datastore="tank"}`,
		`pbsfs_verified_bytes_total{datastore="tank"}`, `pbsfs_chunk_load_duration_seconds_count{datastore="tank"}`,
		`pbsfs_cache_requests_total{cache="chunks",datastore="tank",result="hit"}`,
		`pbsfs_cache_requests_total{cache="chunks",datastore="tank",result="miss"}`,
		`pbsfs_cache_requests_total{cache="metadata",datastore="tank",result="hit"}`,
	} {
		if during[name] < 1 {
			t.Errorf("%s is %v after a whole snapshot was read", name, during[name])
		}
	}
	must(t, f.Close())
	eventually(t, "no file being open", func() error {
		if n := numbersAt(t, socket)[`pbsfs_holders{datastore="tank"}`]; n != 0 {
			return unlike("%v are", n)
		}
		return nil
	})
	h.run("maintenance", "set", tank, "offline").want(t, 0)
	if _, err := os.ReadFile(file); err == nil {
		t.Error("a file can be opened while the datastore is offline")
	}
	numbersAt(t, socket).wants(t, numbers{
		`pbsfs_maintenance_mode{datastore="tank",mode="none"}`:    0,
		`pbsfs_maintenance_mode{datastore="tank",mode="offline"}`: 1,
	})
	if n := numbersAt(t, socket)[`pbsfs_errors_total{datastore="tank",kind="maintenance"}`]; n < 1 {
		t.Errorf("%v refusals are counted", n)
	}
	h.run("maintenance", "clear", tank).want(t, 0)
	m.unmount()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is there after the unmount: %v", err)
	}
}

// readAllFiles reads all regular files below a directory that are not large.
func readAllFiles(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 16<<20 {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	}))
}

func TestMetricsCountDamage(t *testing.T) {
	h := newHost(t)
	store := copyFixture(t, "ds-basic")
	socket := filepath.Join(h.dir, "metrics.sock")
	m := h.mount(store, "--metrics", "unix:"+socket)
	must(t, os.RemoveAll(filepath.Join(store, ".chunks")))
	must(t, os.Mkdir(filepath.Join(store, ".chunks"), 0o755))
	_ = filepath.WalkDir(m.path(alpha), func(path string, _ os.DirEntry, _ error) error {
		_, _ = os.ReadFile(path) // damaged, as intended
		return nil
	})
	damage := 0.0
	for name, v := range numbersAt(t, socket) {
		if strings.HasPrefix(name, "pbsfs_errors_total{") && strings.Contains(name, `kind="damage"`) {
			damage += v
		}
	}
	if damage < 1 {
		t.Errorf("%v errors are counted as damage", damage)
	}
}

func TestMetricsAddressesThatCannotBe(t *testing.T) {
	h := newHost(t)
	store := fixture(t, "ds-basic")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	used := taken.Addr().String()
	for _, c := range []struct {
		what string
		args []string
		code int
		says []string
	}{
		{"no address", []string{"--metrics", "here"}, 2, []string{"here", "HOST:PORT", "unix:PATH"}},
		{"all addresses", []string{"--metrics", "0.0.0.0:0"}, 2, []string{"from elsewhere", "--metrics-exposed"}},
		{"exposed, without which", []string{"--metrics-exposed"}, 2, []string{"--metrics"}},
		{"in use", []string{"--metrics", used}, 1, []string{used, "in use"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := h.unmounted(store)
			for _, got := range []result{m.run(c.args...), h.run(append([]string{"serve", "--listen", "127.0.0.1:0"}, c.args...)...)} {
				got.want(t, c.code)
				got.says(t, c.says...)
			}
			if n := mountsAt(t, m.dir); n != 0 {
				t.Error("something is mounted")
			}
		})
	}
}

func TestMetricsOfServe(t *testing.T) {
	needRoot(t)
	socket := filepath.Join(tempDir(t), "metrics.sock")
	s := servesTank(t, fixture(t, "ds-basic"), "--metrics", "unix:"+socket)
	s.as("read").get("admin/datastore/tank/snapshots", nil).want(http.StatusOK)
	s.as("read").get("admin/datastore/none/snapshots", nil).want(http.StatusNotFound)
	got := numbersAt(t, socket)
	got.wants(t, numbers{
		`pbsfs_datastore_up{datastore="tank"}`:               1,
		`pbsfs_errors_total{datastore="tank",kind="damage"}`: 0,
		`pbsfs_http_requests_total{code="404"}`:              1,
	})
	if got[`pbsfs_http_response_bytes_total`] < 1 || got[`pbsfs_http_requests_total{code="200"}`] < 1 {
		t.Errorf("no answer is counted: %v", got)
	}
	for name := range got {
		if strings.Contains(name, `"none"`) && !strings.Contains(name, "mode=") {
			t.Errorf("a datastore that does not exist is counted: %s", name)
		}
	}
}
