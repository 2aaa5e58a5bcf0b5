package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apiServer is a process that serves the API.
type apiServer struct {
	t       *testing.T
	host    *host
	process process
	cmd     *exec.Cmd
	said    string            // the file with what it prints and logs
	tokens  map[string]string // by role
	url     string            // of the first address, without a slash at its end
	client  *http.Client
	about   *description
	ended   chan struct{}
}

// roleNames are the roles of tokens, from the one that may least.
var roleNames = []string{"audit", "read", "admin"}

// serveTokens starts a server with a token of each role.
func (h *host) serveTokens(args ...string) *apiServer {
	h.t.Helper()
	tokens := make(map[string]string)
	for _, role := range roleNames {
		tokens[role] = h.addToken(role, role)
	}
	s := h.serve(args...)
	s.tokens = tokens
	return s
}

// addToken makes a token and returns it with its secret.
func (h *host) addToken(name, role string) string {
	h.t.Helper()
	got := h.run("serve", "token", "add", name, "--role", role)
	got.want(h.t, 0)
	return strings.TrimSpace(got.stdout)
}

// serve starts a server until the test ends, which must leave nothing. Without --listen
// among the arguments it listens on some port of this host.
func (h *host) serve(args ...string) *apiServer {
	h.t.Helper()
	s := h.startServe(args...)
	for _, line := range strings.Split(s.output(), "\n") {
		at, ok := strings.CutPrefix(line, "pbsfs: listening on ")
		if !ok {
			continue
		}
		s.url = strings.TrimSuffix(at, "/")
		socket, isUnix := strings.CutPrefix(at, "unix:")
		if isUnix {
			s.url = "http://localhost"
		} else {
			socket = ""
		}
		s.client = &http.Client{Transport: h.transport(socket), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		break
	}
	s.about = readDescription(h.t, s)
	return s
}

// transport makes connections to a server of the host, whose certificate it checks. socket
// is the path of a Unix socket, or "".
func (h *host) transport(socket string) *http.Transport {
	h.t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 100, DisableCompression: true}
	if text, err := os.ReadFile(filepath.Join(h.dir, "config", "serve.pem")); err == nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if socket != "" {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	h.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// startServe starts a server and waits until it has said all that it says at its start.
func (h *host) startServe(args ...string) *apiServer {
	h.t.Helper()
	listens := 0
	for _, arg := range args {
		if strings.HasPrefix(arg, "--listen") {
			listens++
		}
	}
	if listens == 0 {
		args, listens = append(args, "--listen", "127.0.0.1:0"), 1
	}
	out, err := os.CreateTemp(h.dir, "serve-")
	must(h.t, err)
	s := &apiServer{t: h.t, host: h, cmd: h.command(append([]string{"serve"}, args...)...), said: out.Name(), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	must(h.t, errors.Join(s.cmd.Start(), out.Close()))
	s.process = findProcess(h.t, s.cmd.Process.Pid)
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	h.t.Cleanup(s.clean)
	tokens := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--token-file") })
	if _, err := os.Stat(filepath.Join(h.dir, "config", "tokens.json")); err == nil {
		tokens = true
	}
	eventually(h.t, "the server listening", func() error {
		text := s.output()
		select {
		case <-s.ended: // not what /proc says: while a program starts another in its place, that is not reliable
			h.t.Fatalf("pbsfs serve %q has ended: %s", args, text)
		default:
		}
		tcp := strings.Count(text, "listening on http")
		switch {
		case strings.Count(text, "listening on ") < listens,
			!tokens && strings.Count(text, "#token=") < tcp,
			strings.Contains(text, "listening on https") && !strings.Contains(text, "fingerprint"),
			!strings.HasSuffix(text, "\n"):
			return unlike("it has said %q", text)
		}
		return nil
	})
	return s
}

// output returns what the server has printed and logged.
func (s *apiServer) output() string {
	s.t.Helper()
	text, err := os.ReadFile(s.said)
	must(s.t, err)
	return string(text)
}

// after returns what follows a text in the output, to the end of its line.
func (s *apiServer) after(text string) string {
	s.t.Helper()
	_, rest, ok := strings.Cut(s.output(), text)
	if !ok {
		s.t.Fatalf("the server did not say %q: %s", text, s.output())
	}
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// exit waits until the server has ended, with that exit code.
func (s *apiServer) exit(code int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatalf("the server has not ended after %s", patience)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("the server ended with %v, want exit code %d; it said %s", s.cmd.ProcessState, code, lastLines(s.output(), 10))
	}
}

// stop ends the server as an administrator does.
func (s *apiServer) stop() {
	s.t.Helper()
	if s.client != nil { // idle connections take a moment to end
		s.client.CloseIdleConnections()
	}
	s.process.signal(s.t, syscall.SIGTERM)
	s.exit(0)
}

// clean ends the server after a test, and checks that nothing is left of it: no
// operation, no file of what it reads, and no secret in anything that it has said.
func (s *apiServer) clean() {
	select {
	case <-s.ended:
	default:
		s.stop()
	}
	if s.process.alive() {
		s.process.signal(s.t, syscall.SIGKILL)
	}
	if left, err := filepath.Glob(filepath.Join(s.host.runDir(), "readings", strconv.Itoa(s.process.pid)+"*")); err != nil || len(left) > 0 {
		s.t.Errorf("left of the server: %q, %v", left, err)
	}
	text := s.output()
	for role, token := range s.tokens {
		if _, secret, _ := strings.Cut(token, ":"); strings.Contains(text, secret) {
			s.t.Errorf("the secret of the token %s is in what the server said", role)
		}
	}
	if s.t.Failed() {
		s.t.Logf("the server said:\n%s", lastLines(text, 20))
	}
}

// apiCaller sends requests to a server.
type apiCaller struct {
	*apiServer
	header http.Header
}

// as returns who has the token of a role.
func (s *apiServer) as(role string) apiCaller {
	s.t.Helper()
	if s.tokens[role] == "" {
		s.t.Fatalf("there is no token with the role %q", role)
	}
	return s.with("Authorization", "PBSAPIToken="+s.tokens[role])
}

// with returns who sends headers with each request: names and values in turn. Without
// any it is somebody who is not known.
func (s *apiServer) with(headers ...string) apiCaller {
	c := apiCaller{s, make(http.Header)}
	for i := 0; i+1 < len(headers); i += 2 {
		c.header.Set(headers[i], headers[i+1])
	}
	return c
}

// params are the parameters of a request.
type params map[string]string

func (p params) encode() string {
	q := make(url.Values, len(p))
	for k, v := range p {
		q.Set(k, v)
	}
	return q.Encode()
}

// and returns the parameters with more of them.
func (p params) and(more params) params {
	out := maps.Clone(p)
	maps.Copy(out, more)
	return out
}

const apiBase = "/api2/json/"

// get asks for a path below the base.
func (c apiCaller) get(path string, p params) *answer {
	c.t.Helper()
	return c.send("GET", apiBase+path+"?"+p.encode(), "", nil)
}

// change sends a request that changes something, with its parameters as JSON.
func (c apiCaller) change(method, path string, p map[string]any) *answer {
	c.t.Helper()
	text, err := json.Marshal(p)
	must(c.t, err)
	return c.send(method, apiBase+path, "application/json", bytes.NewReader(text))
}

// form is change with the parameters as a form.
func (c apiCaller) form(method, path string, p params) *answer {
	c.t.Helper()
	return c.send(method, apiBase+path, "application/x-www-form-urlencoded", strings.NewReader(p.encode()))
}

// request makes a request that is not sent yet.
func (c apiCaller) request(method, path, media string, body io.Reader) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	must(c.t, err)
	r.Header = c.header.Clone()
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	return r
}

// send sends a request and reads the answer, which must be as the description says.
func (c apiCaller) send(method, path, media string, body io.Reader) *answer {
	c.t.Helper()
	return c.do(c.request(method, path, media, body))
}

func (c apiCaller) do(r *http.Request) *answer {
	c.t.Helper()
	a := c.try(r)
	if a.err != nil {
		c.t.Fatalf("%s: %v", a.what, a.err)
	}
	return a
}

// try is do for a request that may be cut off.
func (c apiCaller) try(r *http.Request) *answer {
	c.t.Helper()
	a := &answer{t: c.t, what: r.Method + " " + r.URL.RequestURI()}
	got, err := c.client.Do(r)
	if err != nil {
		a.err = err
		return a
	}
	defer got.Body.Close()
	a.status, a.header = got.StatusCode, got.Header
	a.body, a.err = io.ReadAll(got.Body)
	if a.err == nil {
		c.about.check(a, r.Method, r.URL.EscapedPath())
	}
	return a
}

// answer is the answer to a request.
type answer struct {
	t      *testing.T
	what   string // was asked
	status int
	header http.Header
	body   []byte
	err    error // of the connection
}

// want fails the test unless the answer has that status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: got status %d, want %d: %.500s", a.what, a.status, status, a.body)
	}
	return a
}

// says fails the test unless the body has all of the texts.
func (a *answer) says(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(a.body), text) {
			a.t.Errorf("%s: got %.500q, want it to say %q", a.what, a.body, text)
		}
	}
	return a
}

// refused fails the test unless the answer is one line, with that status and those texts.
func (a *answer) refused(status int, texts ...string) *answer {
	a.t.Helper()
	a.want(status).says(texts...)
	if bytes.ContainsRune(a.body, '\n') || len(a.body) == 0 {
		a.t.Errorf("%s: got %q, want one line", a.what, a.body)
	}
	return a
}

// into decodes the data of the answer.
func (a *answer) into(data any) *answer {
	a.t.Helper()
	a.want(http.StatusOK)
	return a.decode(&struct {
		Data any `json:"data"`
	}{data})
}

// decode decodes the whole body.
func (a *answer) decode(v any) *answer {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: got %.500q: %v", a.what, a.body, err)
	}
	return a
}

// snapshotParams returns the parameters that name the snapshot at a path below a mount.
func snapshotParams(t *testing.T, path string) params {
	t.Helper()
	parts := strings.Split(path, "/")
	var ns []string
	for len(parts) > 3 && parts[0] == "ns" {
		ns, parts = append(ns, parts[1]), parts[2:]
	}
	if len(parts) < 3 {
		t.Fatalf("%q is no snapshot", path)
	}
	at, err := time.Parse(time.RFC3339, parts[2])
	must(t, err)
	return params{"ns": strings.Join(ns, "/"), "backup-type": parts[0], "backup-id": parts[1], "backup-time": strconv.FormatInt(at.Unix(), 10)}
}

// filepathOf returns a path in an archive as the parameter filepath has it.
func filepathOf(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte("/" + strings.Join(parts, "/")))
}

// readSlowly begins a request, and returns its body after the first byte has come. Until
// it is closed, the request goes on.
func (c apiCaller) readSlowly(path string, p params) io.ReadCloser {
	c.t.Helper()
	got, err := c.client.Do(c.request("GET", apiBase+path+"?"+p.encode(), "", nil))
	must(c.t, err)
	c.t.Cleanup(func() { _ = got.Body.Close() })
	if got.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(got.Body)
		c.t.Fatalf("GET %s: got %s: %s", path, got.Status, text)
	}
	_, err = io.ReadFull(got.Body, make([]byte, 1))
	must(c.t, err)
	return got.Body
}

// imageDownload returns the parameters of the download of a large image of ds-basic, which does
// not fit into the buffers between a client and the server.
func imageDownload(t *testing.T) params {
	t.Helper()
	return snapshotParams(t, vm100).and(params{"file-name": filepath.Base(diskImage) + ".fidx"})
}

// servesTank starts a server with tokens on a host where a datastore is configured.
func servesTank(t *testing.T, store string, args ...string) *apiServer {
	t.Helper()
	h := newHost(t)
	h.run("datastore", "add", tank, store).want(t, 0)
	return h.serveTokens(args...)
}

// data is a map in JSON.
type data = map[string]any
