package integration

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Where requests must not come from, nothing is listened to, and one line says why.
func TestServeRefusesToListen(t *testing.T) {
	h, bare := newHost(t), newHost(t)
	token := h.addToken("one", "read")
	other, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer other.Close()
	used := other.Addr().String()
	file := h.file("file", "text")
	exposed := h.file("tokens.json", "{}")
	must(t, os.Chmod(exposed, 0o640))
	socket := filepath.Join(h.dir, "taken")
	taken, err := net.Listen("unix", socket)
	must(t, err)
	defer taken.Close()
	for _, c := range []struct {
		what string
		host *host
		args []string
		code int
		says []string
	}{
		{"the address is in use", h, []string{"--listen", used}, 1, []string{used, "in use", "--listen"}},
		{"one of two is in use", h, []string{"--listen", used, "--listen", "127.0.0.1:0"}, 1, []string{used, "in use"}},
		{"the socket is in use", h, []string{"--listen", "unix:" + socket}, 1, []string{socket, "in use"}},
		{"a file is in its place", h, []string{"--listen", "unix:" + file}, 2, []string{file, "no socket"}},
		{"no directory for the socket", h, []string{"--listen", "unix:" + h.dir + "/none/socket"}, 1, []string{h.dir + "/none"}},
		{"no port", h, []string{"--listen", "127.0.0.1"}, 2, []string{"HOST:PORT", "unix:PATH"}},
		{"no path", h, []string{"--listen", "unix:"}, 2, []string{"no path"}},
		{"all addresses, no TLS", h, []string{"--listen", "0.0.0.0:0", "--no-tls"}, 1, []string{"from elsewhere", "--no-tls"}},
		{"all addresses, no tokens", bare, []string{"--listen", "0.0.0.0:0"}, 1, []string{"from elsewhere", "no token file", "serve token add"}},
		{"all addresses of IPv6, no tokens", bare, []string{"--listen", "[::]:0"}, 1, []string{"from elsewhere", "no token file"}},
		{"one of two, no tokens", bare, []string{"--listen", ":0", "--listen", "127.0.0.1:0"}, 1, []string{"from elsewhere", "no token file"}},
		{"others can read the tokens", h, []string{"--token-file", exposed}, 1, []string{exposed, "other users", "0640", "chmod 600 " + exposed}},
		{"no such token file", h, []string{"--token-file", h.dir + "/none"}, 1, []string{h.dir + "/none", "add a token"}},
		{"a token file that is none", h, []string{"--token-file", file}, 1, []string{file}},
		{"a datastore that is not there", h, []string{"nope"}, 1, []string{"nope"}},
		{"a certificate without its key", h, []string{"--tls-cert", file}, 2, []string{"--tls-key"}},
		{"no certificate", h, []string{"--tls-cert", file, "--tls-key", file}, 1, []string{file}},
		{"with and without TLS", h, []string{"--no-tls", "--tls-cert", file, "--tls-key", file}, 2, []string{"--no-tls"}},
		{"no downloads", h, []string{"--max-downloads", "0"}, 2, []string{"--max-downloads"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := c.host.run(append([]string{"serve", "--listen", "127.0.0.1:0"}, c.args...)...)
			got.want(t, c.code)
			got.says(t, c.says...)
			if _, secret, _ := strings.Cut(token, ":"); strings.Contains(got.stderr+got.stdout, secret) {
				t.Errorf("the secret of a token is said: %s", got.stderr)
			}
		})
	}
	for _, h := range []*host{h, bare} { // neither a socket nor a file about what is read
		left, err := filepath.Glob(filepath.Join(h.runDir(), "*", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
}

// The certificate that clients have pinned is there after a restart.
func TestServeKeepsItsCertificate(t *testing.T) {
	h := newHost(t)
	const fingerprint = "fingerprint (sha256): "
	first := h.serve()
	want := first.after(fingerprint)
	first.stop()
	key := filepath.Join(h.dir, "config", "serve.key")
	info, err := os.Stat(key)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %o, want 600", info.Mode().Perm())
	}
	again := h.serve()
	if got := again.after(fingerprint); got != want {
		t.Errorf("the fingerprint after a restart is %s, before it was %s", got, want)
	}
	// It is spoken with, and a client that trusts nobody else is content.
	if got, err := again.client.Get(again.url + "/api2/openapi.json"); err != nil || got.ProtoMajor != 2 {
		t.Errorf("over TLS: got %+v, %v, want an answer by HTTP/2", got, err)
	}
	if got, err := http.Get(again.url + "/api2/openapi.json"); err == nil { //nolint:noctx // it fails at once
		t.Errorf("a client that does not know the certificate got %s", got.Status)
	}
}

// A Unix socket is for its owner, who may do everything as long as there are no tokens.
func TestServeSocketIsItsOwners(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	socket := filepath.Join(h.dir, "socket")
	s := h.serve("--listen", "unix:"+socket)
	info, err := os.Stat(socket)
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v, want a socket with 600", info.Mode())
	}
	var list []struct{ Store string }
	s.with().get("admin/datastore", nil).into(&list)
	if len(list) != 1 || list[0].Store != tank {
		t.Errorf("over the socket: got %+v, want %s", list, tank)
	}
	s.with().change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "read-only"}).want(http.StatusOK)
	s.with().change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).want(http.StatusOK)
	if err := asUser(nobody, func() error {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err
	}); err == nil {
		t.Error("another user can connect to the socket")
	}
	if strings.Contains(s.output(), "#token=") {
		t.Errorf("a token is printed that nobody needs: %s", s.output())
	}
	s.stop()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket after the end: %v", err)
	}
	// What a server that was killed has left is replaced.
	killed := h.serve("--listen", "unix:"+socket)
	must(t, killed.cmd.Process.Kill())
	killed.exit(-1)
	must(t, os.RemoveAll(filepath.Join(h.runDir(), "readings")))
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal(err)
	}
	h.serve("--listen", "unix:"+socket).with().get("version", nil).want(http.StatusOK)

	// With tokens, being able to connect is not enough.
	with := servesTank(t, fixture(t, "ds-basic"), "--listen", "unix:"+filepath.Join(h.dir, "other"))
	with.with().get("version", nil).refused(http.StatusUnauthorized, "no authentication credentials provided")
	with.as("audit").get("version", nil).want(http.StatusOK)
}

// The token that is printed at the start reads, and changes nothing, whatever way it
// comes; the next start prints another one.
func TestServeTokenOfTheStartOnlyReads(t *testing.T) {
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	s := h.serve("--no-tls")
	once := s.after("#token=")
	s.tokens = map[string]string{"start": once}
	t.Cleanup(func() { s.tokens = nil }) // it is printed, on purpose
	config := h.config()
	read := s.as("start")
	read.get("admin/datastore", nil).want(http.StatusOK)
	read.get("admin/datastore/"+tank+"/download-decoded", snapshotParams(t, alpha).and(params{"file-name": "client.log.blob"})).want(http.StatusOK)
	for _, c := range []apiCaller{read, s.login("start")} {
		var session struct {
			Role    string
			Changes bool
		}
		if c.header.Get("Cookie") != "" {
			c.get("pbsfs/session", nil).into(&session)
			if session.Role != "read" || session.Changes {
				t.Errorf("the session is %+v, want one that reads and changes nothing", session)
			}
		}
		c.change("POST", "pbsfs/maintenance/"+tank+"/set", data{"mode": "offline"}).refused(http.StatusForbidden, "token", "serve token add")
		c.change("POST", "pbsfs/maintenance/"+tank+"/clear", nil).refused(http.StatusForbidden)
		c.change("PUT", "config/datastore/"+tank, data{"maintenance-mode": "offline"}).refused(http.StatusForbidden)
		c.change("POST", "admin/datastore/"+tank+"/unmount", nil).refused(http.StatusForbidden)
	}
	s.with("Authorization", "PBSAPIToken="+once+"x").get("version", nil).refused(http.StatusUnauthorized)
	if now := h.config(); now != config {
		t.Errorf("datastore.cfg has changed to %s", now)
	}
	s.stop()
	again := h.serve("--no-tls")
	if again.after("#token=") == once {
		t.Error("the token of the start is the same after a restart")
	}
	again.with("Authorization", "PBSAPIToken="+once).get("version", nil).refused(http.StatusUnauthorized)
}

// A socket that systemd has opened is taken over, and no other address is listened on.
func TestServeTakesTheSocketOfSystemd(t *testing.T) {
	h := newHost(t)
	opened, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	given, err := opened.(*net.TCPListener).File()
	must(t, err)
	must(t, opened.Close())
	serve := h.command("serve", "--no-tls")
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`}, serve.Args...)...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr, cmd.ExtraFiles = serve.Env, serve.Dir, serve.SysProcAttr, []*os.File{given}
	said := filepath.Join(h.dir, "said")
	out, err := os.Create(said)
	must(t, err)
	cmd.Stdout, cmd.Stderr = out, out
	must(t, errors.Join(cmd.Start(), out.Close(), given.Close())) // from here on only the server has the socket
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	url := "http://" + opened.Addr().String()
	client := http.Client{Timeout: patience} // of a socket that nobody accepts from no answer comes
	eventually(t, "an answer over the socket of systemd", func() error {
		answer, err := client.Get(url + "/api2/openapi.json") //nolint:noctx // of this host
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return unlike("got %s", answer.Status)
		}
		return nil
	})
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	err = cmd.Wait()
	text, readErr := os.ReadFile(said)
	must(t, readErr)
	if err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if got := string(text); !strings.Contains(got, "listening on "+url) || strings.Count(got, "listening on ") != 1 {
		t.Errorf("it has said %q, want that it listens on %s only", got, url)
	}
}
