package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site is a host with one datastore, which is mounted, and with a server for it.
type site struct {
	t        *testing.T
	host     *host
	mount    *mount
	files    map[string][]byte // what is in root.pxar, by path
	snapshot string            // below the mount
	time     time.Time         // of the snapshot
	tokens   map[string]string // by role
	file     string            // the tokens
	address  string            // where the server listens
	url      string
	process  *os.Process
	ended    chan struct{}
}

const (
	notes        = "These are the notes.\n"
	smallPicture = "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAAAAAC4HznGAAAADklEQVR4nGMQaPjAAMQACkgDAXssj20AAAAASUVORK5CYII=" // 3 × 2, PNG
	longList     = 5_000
)

// newSite makes a datastore, mounts it and starts a server.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, host: newHost(t), files: siteFiles(t), tokens: make(map[string]string), address: "127.0.0.1:0"}
	store, src := subdir(t, s.host.dir, "store"), subdir(t, s.host.dir, "src")
	subdir(t, store, ".chunks") // --create would make 65,536 directories in it, which takes longer than all tests here
	s.write(src)
	s.host.run("datastore", "add", tank, store).want(t, 0)
	s.snapshot = s.host.create("root.pxar:"+src, tank, "--id", "laptop")
	at, err := time.Parse(time.RFC3339, filepath.Base(s.snapshot))
	must(t, err)
	s.time = at
	s.mount = s.host.mount(store)
	s.file = filepath.Join(s.host.dir, "tokens.json")
	for _, role := range []string{"audit", "read", "admin"} {
		added := s.host.run("serve", "token", "add", role, "--role", role, "--token-file", s.file)
		added.want(t, 0)
		s.tokens[role] = strings.TrimSpace(added.stdout)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// siteFiles are the files of the snapshot, without those of the long listing.
func siteFiles(t *testing.T) map[string][]byte {
	t.Helper()
	picture, err := base64.StdEncoding.DecodeString(smallPicture)
	must(t, err)
	data := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(data)
	return map[string][]byte{
		"notes.txt":                            []byte(notes),
		"picture.png":                          picture,
		"lies.png":                             []byte("<script>alert(1)</script>\n"),
		"binary":                               data[:1000],
		"empty":                                {},
		"long.log":                             bytes.Repeat([]byte("a line of a log – with a dash\n"), 3<<19/32),
		"deep/data.bin":                        data,
		"hostile/\u202egpj.exe":                []byte("MZ"),
		"hostile/<img src=x onerror=alert(1)>": []byte("x"),
		"hostile/a\nb":                         []byte("x"),
		"hostile/not UTF-8 \xff/inside":        []byte("x"),
	}
}

// write writes the files, and a directory with very many.
func (s *site) write(dir string) {
	s.t.Helper()
	for name, content := range s.files {
		path := filepath.Join(dir, name)
		must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(s.t, os.WriteFile(path, content, 0o644))
	}
	many := subdir(s.t, dir, "many")
	for i := range longList {
		must(s.t, os.WriteFile(filepath.Join(many, fmt.Sprintf("file%d", i+1)), nil, 0o644))
	}
}

// start starts the server, where it was before if it ran already.
func (s *site) start() {
	s.t.Helper()
	path := filepath.Join(s.host.dir, "serve.log")
	log, err := os.Create(path)
	must(s.t, err)
	defer log.Close()
	cmd := s.host.command("serve", "--listen", s.address, "--no-tls", "--token-file", s.file, "--stop-timeout", "1s")
	cmd.Stderr = log
	must(s.t, cmd.Start())
	ended := make(chan struct{})
	s.process, s.ended = cmd.Process, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	eventually(s.t, "the server listening", func() error {
		text, err := os.ReadFile(path)
		_, after, found := strings.Cut(string(text), "listening on http://")
		line, _, whole := strings.Cut(after, "\n")
		if err != nil || !found || !whole {
			return unlike("it says %q, %v", text, err)
		}
		s.address = strings.TrimSuffix(line, "/")
		s.url = "http://" + line
		return nil
	})
}

// stop ends the server.
func (s *site) stop() {
	s.t.Helper()
	_ = s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.process.Kill()
		s.t.Error("the server does not end")
	}
}
