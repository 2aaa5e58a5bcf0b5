package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// holdersAnswer is the data of a refusal.
type holdersAnswer struct {
	Message string
	Data    struct {
		Datastore, Type string
		Set             bool
		Processes       []struct {
			PID  int
			Name string
			Read int64
		}
		Open []struct {
			Mountpoint string
			Handles    []struct {
				Path, Name, How string
				PID             int
				Age             *float64 `json:"age_s"`
			}
		}
	}
}

// held returns the path of what a process holds open, "" when it is not named.
func (h holdersAnswer) held(pid int) (path, how string) {
	for _, o := range h.Data.Open {
		for _, held := range o.Handles {
			if held.PID == pid {
				return held.Path, held.How
			}
		}
	}
	return "", ""
}

// Who has a file open in a mount is in the way of a mode that is set over the API, and is
// named as data; nothing has changed then.
func TestServeNamesWhoIsInTheWay(t *testing.T) {
	h := newHost(t)
	store := fixture(t, "ds-basic")
	h.run("datastore", "add", tank, store).want(t, 0)
	m := h.mount(store)
	s := h.serveTokens()
	admin := s.as("admin")
	held := startActor(t, "hold", m.path(diskImage))
	config := h.config()
	e := s.events("audit")
	e.until("the open file", func(s status) bool { return len(s.Handles) == 1 && s.Handles[0].Path == m.path(diskImage) })
	var got holdersAnswer
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline", "wait": 0.1}).want(http.StatusConflict).decode(&got)
	path, how := got.held(held.pid)
	if path != m.path(diskImage) || how == "" || got.Data.Datastore != tank || got.Data.Type != "offline" || got.Data.Set {
		t.Errorf("refused with %+v, want the file that process %d has open", got, held.pid)
	}
	if len(got.Data.Processes) == 0 || got.Data.Processes[0].PID != m.process.pid || got.Data.Processes[0].Read != 1 {
		t.Errorf("the processes are %+v, want the one that serves the mount", got.Data.Processes)
	}
	// A client of PBS gets text.
	text := admin.form("PUT", "config/datastore/"+tank, params{"maintenance-mode": "offline"}).want(http.StatusConflict).body
	for _, message := range []string{got.Message, string(text)} {
		if !strings.Contains(message, held.who()) || !strings.Contains(message, m.path(diskImage)) {
			t.Errorf("the message does not name the holder: %s", message)
		}
	}
	if h.config() != config {
		t.Errorf("refused, but datastore.cfg changed to %s", h.config())
	}
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "read-only"}).want(http.StatusOK) // readers may stay
	admin.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).want(http.StatusOK)
	held.end()
	e.until("nothing open", func(s status) bool { return len(s.Handles) == 0 })
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline", "wait": 60}).want(http.StatusOK)
	wantErrno(t, "opening a file while offline", opens(m.path(conf)), syscall.EHOSTDOWN)
	e.until("the mode", func(s status) bool { return s.Mode != nil && *s.Mode == "offline" })
	h.run("maintenance", "clear", tank).want(t, 0)
	e.until("the end of the maintenance", func(s status) bool { return s.Mode == nil })
}

// With drain, the mode stands while what is open ends; the answer and the events say what
// that is.
func TestServeDrains(t *testing.T) {
	h := newHost(t)
	store := fixture(t, "ds-basic")
	h.run("datastore", "add", tank, store).want(t, 0)
	m := h.mount(store)
	s := h.serveTokens()
	admin := s.as("admin")
	held := startActor(t, "hold", m.path(diskImage))
	var mode struct {
		Type   *string
		Active []struct {
			PID  int
			Read int64
		}
		Open []struct{ Handles []struct{ Path string } }
	}
	admin.get(at("groups"), nil).want(http.StatusOK)
	admin.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline", "drain": true, "message": "draining"}).into(&mode)
	if mode.Type == nil || *mode.Type != "offline" || len(mode.Open) != 1 || mode.Open[0].Handles[0].Path != m.path(diskImage) {
		t.Errorf("drain: got %+v, want the mode, and the open file", mode)
	}
	admin.get(at("groups"), nil).refused(http.StatusServiceUnavailable, "draining")
	// Given up.
	admin.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).into(&mode)
	if mode.Type != nil {
		t.Errorf("clear: got %+v", mode)
	}
	admin.get(at("groups"), nil).want(http.StatusOK)
	// As PBS has it, and until the end.
	admin.form("PUT", "config/datastore/"+tank, params{"maintenance-mode": "offline", "drain": "1"}).want(http.StatusOK)
	e := s.events("audit")
	e.until("what it waits for", func(s status) bool { return s.Mode != nil && s.reads() > 0 && len(s.Handles) == 1 })
	held.end()
	e.until("that nothing is left", func(s status) bool { return s.Mode != nil && s.reads() == 0 && len(s.Handles) == 0 })
	admin.get("pbsfs/maintenance/"+tank, nil).into(&mode)
	if len(mode.Active)+len(mode.Open) != 0 {
		t.Errorf("nothing is open, and the mode waits for %+v", mode)
	}
	admin.form("PUT", "config/datastore/"+tank, params{"delete": "maintenance-mode"}).want(http.StatusOK)
}

// A download is an operation that others see, and that is in the way of offline, until it
// has ended or its client is gone.
func TestServeDownloadsAreOperations(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"))
	h := s.host
	image := diskImage + ".fidx" // by its stored name
	for what, end := range map[string]func(io.ReadCloser){
		"read to the end": func(b io.ReadCloser) {
			if n, err := io.Copy(io.Discard, b); err != nil || n != truthOf(t, "ds-basic", diskImage).entries[0].Size-1 {
				t.Errorf("the rest of the download: %d bytes, %v", n, err)
			}
		},
		"the client goes": func(b io.ReadCloser) { must(t, b.Close()) },
	} {
		t.Run(what, func(t *testing.T) {
			body := s.as("read").readSlowly(at("download-decoded"), imageDownload(t))
			eventually(t, "the download in the status", func() error {
				for _, held := range h.status().Handles {
					if held.Path == image && held.PID == s.process.pid && held.Name == "pbsfs serve" && strings.HasPrefix(held.How, "download by pbsfs@pbsfs!read at 127.0.0.1") {
						return nil
					}
				}
				return unlike("the status is %+v", h.status())
			})
			refused := h.run("maintenance", "set", tank, "offline", "--wait", "50ms")
			refused.want(t, 3)
			refused.says(t, fmt.Sprintf("process %d pbsfs", s.process.pid), image, "download by pbsfs@pbsfs!read")
			var over holdersAnswer
			s.as("admin").change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline", "wait": 0}).want(http.StatusConflict).decode(&over)
			if path, how := over.held(s.process.pid); path != image || !strings.HasPrefix(how, "download by ") {
				t.Errorf("over the API, refused with %+v, want the download", over)
			}
			var counts struct{ Read, Write int64 }
			s.as("audit").get(at("active-operations"), nil).into(&counts)
			if counts.Read < 1 || counts.Write != 0 {
				t.Errorf("active operations: %+v, want a read", counts)
			}
			end(body)
			h.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
			h.idle(tank)
			h.run("maintenance", "clear", tank).want(t, 0)
			eventually(t, "the download being gone from the status", func() error {
				if s := h.status(); len(s.Handles) > 0 {
					return unlike("there is %+v", s.Handles)
				}
				return nil
			})
		})
	}
	// What a server that was killed had open is in nobody's way.
	s.as("read").readSlowly(at("download-decoded"), imageDownload(t))
	must(t, s.cmd.Process.Kill())
	s.exit(-1)
	h.run("maintenance", "set", tank, "offline", "--wait", patience.String()).want(t, 0)
	if left := h.status(); len(left.Handles) > 0 || left.reads() > 0 {
		t.Errorf("of a server that was killed, the status shows %+v", left)
	}
}

// At its end, the server waits for downloads as long as it was told to. What it cuts off
// it names, and a client sees that it has not got everything.
func TestServeEndsWithDownloads(t *testing.T) {
	store := fixture(t, "ds-basic")
	download := func(t *testing.T, args ...string) (*apiServer, io.ReadCloser) {
		t.Helper()
		s := servesTank(t, store, args...)
		events := s.events("audit") // which is in nobody's way
		events.next("hello")
		return s, s.as("read").readSlowly(at("download-decoded"), imageDownload(t))
	}
	cut := func(t *testing.T, s *apiServer, body io.ReadCloser) {
		t.Helper()
		s.exit(1)
		if _, err := io.Copy(io.Discard, body); err == nil {
			t.Error("a download was cut off, and its client has seen the end of it")
		}
		said := s.output()
		for _, want := range []string{"1 downloads were under way", "  " + tank + " /" + diskImage + ".fidx, by pbsfs@pbsfs!read at 127.0.0.1"} {
			if !strings.Contains(said, want) {
				t.Errorf("it said %s, want %q", said, want)
			}
		}
	}
	t.Run("after the time to wait", func(t *testing.T) {
		s, body := download(t, "--stop-timeout", "100ms")
		s.process.signal(t, syscall.SIGTERM)
		cut(t, s, body)
		if n := s.host.status().reads(); n != 0 {
			t.Errorf("%d reads are left", n)
		}
	})
	t.Run("at the second signal", func(t *testing.T) {
		s, body := download(t, "--stop-timeout", "1h")
		s.process.signal(t, syscall.SIGTERM)
		eventually(t, "the server ending", func() error {
			if !strings.Contains(s.output(), "msg=ending open=1") {
				return unlike("it has said %s", s.output())
			}
			return nil
		})
		s.process.signal(t, syscall.SIGTERM)
		cut(t, s, body)
	})
	t.Run("the client reads on", func(t *testing.T) {
		s, body := download(t, "--stop-timeout", "1h")
		s.process.signal(t, syscall.SIGTERM)
		eventually(t, "no more requests being taken", func() error {
			fresh := &http.Client{Transport: s.host.transport("")}
			got, err := fresh.Get(s.url + "/api2/openapi.json")
			if err != nil {
				return nil //nolint:nilerr // that is what is waited for
			}
			return unlike("a new connection gets %s", got.Status)
		})
		if n, err := io.Copy(io.Discard, body); err != nil || n != truthOf(t, "ds-basic", diskImage).entries[0].Size-1 {
			t.Errorf("the rest of the download: %d bytes, %v", n, err)
		}
		s.exit(0)
	})
	t.Run("nothing open", func(t *testing.T) {
		s := servesTank(t, store, "--stop-timeout", "1h")
		s.events("audit").next("hello")
		s.as("read").get(at("groups"), nil).want(http.StatusOK)
		s.stop()
	})
}

// Downloads have a bound: one that is too many waits for another to end.
func TestServeBoundsDownloads(t *testing.T) {
	s := servesTank(t, fixture(t, "ds-basic"), "--max-downloads", "1")
	body := s.as("read").readSlowly(at("download-decoded"), imageDownload(t))
	second := make(chan *answer, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := s.as("read").request("GET", apiBase+at("download-decoded")+"?"+snapshotParams(t, alpha).and(params{"file-name": "client.log.blob"}).encode(), "", nil)
	go func() { second <- s.with().try(r.WithContext(ctx)) }()
	s.as("read").get(at("groups"), nil).want(http.StatusOK) // which needs no place
	select {
	case a := <-second:
		t.Errorf("a second download at once: got %d, %v, want that it waits", a.status, a.err)
	default:
	}
	must(t, body.Close())
	if a := <-second; a.err != nil || a.status != http.StatusOK {
		t.Errorf("after the first download: got %d, %v: %s", a.status, a.err, a.body)
	}
}

// A removable datastore is unmounted over the API, unless somebody is in the way.
func TestServeUnmountsRemovableDatastores(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	r.plug()
	m := h.mountBy(r.name)
	s := h.serveTokens()
	admin := s.as("admin")
	status := func() string {
		var list []struct {
			Store  string
			Status string `json:"mount-status"`
		}
		admin.get("admin/datastore", nil).into(&list)
		if len(list) != 1 || list[0].Store != r.name {
			t.Fatalf("the list of datastores is %+v", list)
		}
		return list[0].Status
	}
	if got := status(); got != "mounted" {
		t.Errorf("mount-status is %q, want mounted", got)
	}
	admin.get("admin/datastore/"+r.name+"/groups", nil).want(http.StatusOK)
	config := h.config()
	held := startActor(t, "hold", m.path(diskImage))
	unmount := func() *answer { return admin.change("POST", "admin/datastore/"+r.name+"/unmount", nil) }
	if text := string(unmount().want(http.StatusConflict).body); !strings.Contains(text, held.who()) || !strings.Contains(text, m.path(diskImage)) {
		t.Errorf("refused with %s, want the open file", text)
	}
	if h.config() != config || status() != "mounted" {
		t.Errorf("refused, but datastore.cfg is %s", h.config())
	}
	m.show()
	held.end()
	// A download is in the way, too.
	p := snapshotParams(t, filepath.Dir(diskImage)).and(params{"file-name": filepath.Base(diskImage) + ".fidx"})
	body := s.as("read").readSlowly("admin/datastore/"+r.name+"/download-decoded", p)
	if text := string(unmount().want(http.StatusConflict).body); !strings.Contains(text, diskImage+".fidx") || !strings.Contains(text, "download by ") {
		t.Errorf("refused with %s, want the download", text)
	}
	must(t, body.Close())
	var task string
	eventually(t, "the unmount", func() error { // the server learns that a client has gone when it writes to it
		a := admin.change("POST", "admin/datastore/"+r.name+"/unmount", nil)
		if a.status != http.StatusOK {
			return unlike("got %d: %s", a.status, a.body)
		}
		a.into(&task)
		return nil
	})
	if !strings.HasPrefix(task, "UPID:") || !strings.Contains(task, ":"+r.name+":") {
		t.Errorf("the task is called %q", task)
	}
	if got := status(); got != "notmounted" {
		t.Errorf("mount-status is %q, want notmounted", got)
	}
	m.gone()
	r.unplug()
	s.stop()
	r.nothingLeft(h)
}
