package served

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// nothing is a mount in which nothing is open.
type nothing struct{}

func (nothing) Handles() []fs.Handle   { return nil }
func (nothing) Problems() []fs.Problem { return nil }

// shared is a host whose files others write, with a datastore of ours open on it.
type shared struct {
	t     *testing.T
	host  hosts.Host
	ref   *store.Lookup
	texts [5]string // datastore.cfg, the operations file, a record, a file of readings, a request
	held  []*store.Reader
}

// ending ends what a fuzzer began. The end of the last operation takes a moment, for which the
// next input need not wait.
type ending struct {
	slots chan struct{}
	all   sync.WaitGroup

	mu     sync.Mutex
	faults []string
}

// later releases all, closes the datastore, and looks at what is left.
func (e *ending) later(h *shared, dir string, steps []byte) {
	e.slots <- struct{}{}
	e.all.Go(func() {
		defer func() { <-e.slots }()
		defer os.RemoveAll(dir)
		for _, r := range h.held {
			r.Release()
		}
		err := h.ref.Close()
		if err != nil && h.documented(err) {
			err = nil
		}
		if err = errors.Join(err, h.nothingLeft()); err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.faults = append(e.faults, fmt.Sprintf("%v, after %q with %v", err, h.texts, steps))
		}
	})
}

// report tells what was found wrong since it was asked last.
func (e *ending) report(t testing.TB) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.faults {
		t.Error(f)
	}
	e.faults = nil
}

// documented are the ways to refuse an operation or a mode.
var documented = []error{
	maint.ErrUncounted, maint.ErrConflict, maint.ErrOutdated, maint.ErrTakenBack, cfg.ErrOffline, cfg.ErrReadOnly, cfg.ErrUnmounting, cfg.ErrDeleted,
	cfg.ErrNotConfigured, cfg.ErrBadMode, cfg.ErrBadMessage, store.ErrGone,
}

func (s *shared) refused(what string, err error) {
	s.t.Helper()
	if !s.documented(err) {
		s.t.Errorf("%s: %v, which is in no list", what, err)
	}
}

// documented reports whether an error is one of those, or says which file cannot be used.
func (s *shared) documented(err error) bool {
	for _, d := range documented {
		if errors.Is(err, d) {
			return true
		}
	}
	return strings.Contains(err.Error(), s.host.ConfigDir()) || strings.Contains(err.Error(), s.host.RunDir())
}

// put writes one of the files that others write.
func (s *shared) put(i int) {
	files := []string{
		filepath.Join(s.host.ConfigDir(), "datastore.cfg"), s.host.OperationsFile("tank"), filepath.Join(recordDir(s.host), "1.json"), filepath.Join(readingsDir(s.host), "1.json"),
	}
	file := files[i%len(files)]
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), replace(file, []byte(s.texts[i%len(files)]))); err != nil {
		s.t.Fatal(err)
	}
}

// step does one thing.
func (s *shared) step(b byte) {
	switch b % 9 {
	case 0, 1, 2, 3:
		s.put(int(b % 9))
	case 4:
		r, err := s.ref.Acquire(s.t.Context())
		if err != nil {
			s.refused("read", err)
			return
		}
		s.held = append(s.held, r)
	case 5:
		if n := len(s.held); n > 0 {
			s.held[n-1].Release()
			s.held = s.held[:n-1]
		}
	case 6:
		mode := []cfg.ModeType{cfg.ReadOnly, cfg.Offline}[b/9%2]
		if err := maint.SetMode(s.t.Context(), s.host, "tank", mode, maint.SetOptions{Message: s.texts[4], Log: slog.New(slog.DiscardHandler)}); err != nil {
			s.refused("set a mode", err)
		}
	case 7:
		s.ask()
	case 8:
		s.look()
	}
}

// ask sends the request to the socket of a mount: it gets an answer, or none.
func (s *shared) ask() {
	client, server := net.Pipe()
	go func() {
		_, _ = io.WriteString(client, s.texts[4])
		_ = client.Close()
	}()
	out := make(chan []byte, 1)
	there, back := net.Pipe()
	go func() {
		b, _ := io.ReadAll(back)
		out <- b
	}()
	answerControl(halves{server, there}, nothing{}, s.ref)
	_ = there.Close()
	if b := <-out; len(b) > 0 && json.Unmarshal(b, new(State)) != nil {
		s.t.Errorf("the answer is %q", b)
	}
}

// halves is a connection that is read from one side and written to another.
type halves struct {
	net.Conn
	to net.Conn
}

func (h halves) Write(p []byte) (int, error) { return h.to.Write(p) }

// look reads what others have left, as pbsfs status does.
func (s *shared) look() {
	for _, r := range mustRecords(s.t, s.host) {
		if r.PID == os.Getpid() {
			continue
		}
		_ = r.Serves(locate.Target{Name: "tank", Path: "/x"})
		_ = Find([]*Record{r}, mounts.Mount{Major: 0, Minor: 77, Source: r.Path, Point: r.Mountpoint})
	}
	_, _, _ = ReadersOf(s.host, locate.Target{Name: "tank"})
}

func mustRecords(t *testing.T, host hosts.Host) []*Record {
	t.Helper()
	all, err := Records(host)
	if err != nil {
		t.Errorf("records: %v", err)
	}
	return all
}

// FuzzHost has a host whose files say whatever they say: datastore.cfg, the operations file,
// records, and requests on a socket, in any order with operations and modes of ours. When all
// is over, nothing of ours is left in the operations file.
func FuzzHost(f *testing.F) {
	s := storetest.InMemory(f)
	entry := "datastore: tank\n\tpath @\n" // @ is where the datastore lies
	ops := `[{"pid":1,"starttime":1,"active_operations":{"read":1,"write":0}}]`
	record := `{"pid":1,"starttime":1,"datastore":"tank","path":"/x","mountpoint":"/mnt","device":"0:77"}`
	readings := `{"pid":1,"starttime":1,"readings":[{"datastore":"tank","path":"a"}],"problems":{"tank":[{"text":"x"}]}}`
	f.Add(entry, ops, record, readings, `{"ping":true}`, []byte{0, 1, 2, 3, 4, 7, 8, 6, 5, 6, 4})
	f.Add(entry+"\tmaintenance-mode type=offline,message=\"x\"\n", "[]", "{", "[]", `{}`, []byte{0, 4, 1, 4, 7})
	f.Add("datastore: tank\n", `[{"pid":4294967295}]`, "null", "null", `{"add":{"keys":[]}}`, []byte{4, 1, 0, 4, 5, 6, 15})
	f.Add(entry+entry, `{}`, strings.Repeat("[", 1000), `""`, "x", []byte{1, 4, 0, 4, 6, 7, 8})
	end := &ending{slots: make(chan struct{}, 16)}
	f.Cleanup(func() {
		end.all.Wait()
		end.report(f)
	})
	f.Fuzz(func(t *testing.T, config, ops, record, readings, request string, steps []byte) {
		if strings.Contains(config, "/") {
			t.Skip() // it could lead anywhere on this machine
		}
		if strings.Contains(request, "masters") {
			t.Skip() // keys take time
		}
		dir, err := os.MkdirTemp(filepath.Dir(s.Dir), "host-")
		if err != nil {
			t.Fatal(err)
		}
		host, err := hosts.NewHost(hosts.HostOptions{
			ConfigDir: filepath.Join(dir, "etc"), RunDir: filepath.Join(dir, "run"), Getenv: func(string) string { return "" }, UID: os.Geteuid(),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := &shared{t: t, host: host, texts: [5]string{strings.ReplaceAll(config, "@", s.Dir), ops, record, readings, request}}
		if h.ref, err = store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: host, Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		for _, b := range steps[:min(len(steps), 16)] {
			h.step(b)
		}
		end.later(h, dir, steps)
		end.report(t)
	})
}

// nothingLeft returns an error if an operation of ours is left, and the operations file is one.
func (s *shared) nothingLeft() error {
	text, err := os.ReadFile(s.host.OperationsFile("tank"))
	if err != nil {
		return nil
	}
	entries, err := opsfile.Decode(text)
	if err != nil {
		return nil
	}
	self, err := procfs.MarkSelf()
	if err != nil {
		return err
	}
	for _, e := range entries {
		// What somebody else wrote under our number is none of ours.
		if int(e.PID) == self.PID && e.StartTime == self.StartTime && !strings.Contains(s.texts[1], strconv.Itoa(self.PID)) {
			return fmt.Errorf("our operations are left: %s", text)
		}
	}
	return nil
}
