package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// peer is a client of the API that nobody here wrote.
type peer struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

// peerPython is the program that has the clients, which 'make setup-peers' installs.
func peerPython(t *testing.T) string {
	t.Helper()
	python, err := filepath.Abs("../bin/peers/venv/bin/python")
	must(t, err)
	if _, err := os.Stat(python); err != nil {
		t.Skipf("needs clients that others wrote (make setup-peers): %v", err)
	}
	return python
}

// startPeer starts a client with a token, which trusts a certificate.
func startPeer(t *testing.T, s *apiServer, token, cert string) *peer {
	t.Helper()
	id, secret, _ := strings.Cut(token, ":")
	user, name, _ := strings.Cut(id, "!")
	cmd := exec.Command(peerPython(t), "testdata/proxmoxer_client.py")
	cmd.Env = append(os.Environ(), "HOST="+strings.TrimPrefix(s.url, "https://"), "TOKEN_USER="+user, "TOKEN_NAME="+name, "TOKEN_VALUE="+secret, "CERTIFICATE="+cert)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the client: %v", err)
		}
	})
	return &peer{t, in, bufio.NewReader(out)}
}

// peerAnswer is what a client's user sees of an answer.
type peerAnswer struct {
	what   string
	Data   json.RawMessage `json:"data"`
	Status int             `json:"status"` // of a failure
	Text   string          `json:"text"`
}

// ask lets the client send a request.
func (p *peer) ask(method, path string, with params) peerAnswer {
	p.t.Helper()
	if with == nil {
		with = params{}
	}
	must(p.t, json.NewEncoder(p.in).Encode([]any{method, strings.Split(path, "/"), with}))
	line, err := p.out.ReadBytes('\n')
	must(p.t, err)
	a := peerAnswer{what: method + " " + path}
	must(p.t, json.Unmarshal(line, &a))
	return a
}

// into decodes the data of an answer, which must be one.
func (a peerAnswer) into(t *testing.T, v any) {
	t.Helper()
	if a.Status != 0 {
		t.Fatalf("%s: got %d, %s", a.what, a.Status, a.Text)
	}
	must(t, json.Unmarshal(a.Data, v))
}

// refused fails the test unless the client has reported a failure.
func (a peerAnswer) refused(t *testing.T, status int, texts ...string) {
	t.Helper()
	if a.Status != status {
		t.Errorf("%s: got %d, %s, %s, want %d", a.what, a.Status, a.Text, a.Data, status)
	}
	for _, text := range texts {
		if !strings.Contains(a.Text, text) {
			t.Errorf("%s: the client says %q, want %q", a.what, a.Text, text)
		}
	}
}

// A library for the server's API works with ours, unchanged: by TLS that it checks, with
// a token.
func TestServeWorksWithProxmoxer(t *testing.T) {
	peerPython(t)
	h := newHost(t)
	h.run("datastore", "add", tank, fixture(t, "ds-basic")).want(t, 0)
	m := h.mount(fixture(t, "ds-basic"))
	s := h.serveTokens()
	cert := filepath.Join(h.dir, "config", "serve.pem")
	p := startPeer(t, s, s.tokens["admin"], cert)

	var version struct{ Version, Release string }
	p.ask("get", "version", nil).into(t, &version)
	if version.Version == "" || version.Release == "" {
		t.Errorf("the version is %+v", version)
	}
	var stores []struct{ Store string }
	p.ask("get", "admin/datastore", nil).into(t, &stores)
	if len(stores) != 1 || stores[0].Store != tank {
		t.Errorf("datastores: %+v, want %s", stores, tank)
	}
	var namespaces []struct{ NS string }
	p.ask("get", at("namespace"), nil).into(t, &namespaces)
	if len(namespaces) != 4 {
		t.Errorf("namespaces: %+v, want 4", namespaces)
	}
	var groups []struct {
		Type  string `json:"backup-type"`
		ID    string `json:"backup-id"`
		Count int    `json:"backup-count"`
	}
	p.ask("get", at("groups"), params{"ns": "prod"}).into(t, &groups)
	if got := fmt.Sprint(groups); got != "[{host small-bravo 1} {vm 102 1}]" {
		t.Errorf("groups of prod: %s", got)
	}
	var snaps []struct {
		Time  int64 `json:"backup-time"`
		Files []struct{ Filename string }
	}
	p.ask("get", at("snapshots"), params{"backup-type": "host", "backup-id": "alpha"}).into(t, &snaps)
	if len(snaps) != 3 {
		t.Errorf("snapshots of host/alpha: %+v, want 3", snaps)
	}
	var files []struct{ Filename string }
	p.ask("get", at("files"), snapshotParams(t, alpha)).into(t, &files)
	if len(files) != 5 {
		t.Errorf("files of %s: %+v, want 5", alpha, files)
	}
	var level []struct{ Text, Type string }
	p.ask("get", at("catalog"), snapshotParams(t, alpha).and(params{"filepath": filepathOf("etc.pxar.didx")})).into(t, &level)
	if names, err := readNames(m.path(alpha, "etc.pxar")); err != nil || len(level) != len(names) {
		t.Errorf("a level of an archive: %+v, in the mount: %q, %v", level, names, err)
	}

	// The mode is set and cleared as with the server: with the digest, or without.
	held := startActor(t, "hold", m.path(diskImage))
	var active struct{ Read, Write int64 }
	eventually(t, "the open file being counted", func() error {
		p.ask("get", at("active-operations"), nil).into(t, &active)
		if active.Read < 1 {
			return unlike("active operations: %+v", active)
		}
		return nil
	})
	offline := params{"maintenance-mode": `offline,message="disk swap, then fsck"`}
	config := h.config()
	p.ask("put", "config/datastore/"+tank, offline).refused(t, http.StatusConflict, held.who(), m.path(diskImage))
	if h.config() != config {
		t.Errorf("refused, but datastore.cfg changed to %s", h.config())
	}
	held.end()
	h.idle(tank)
	p.ask("put", "config/datastore/"+tank, offline).into(t, new(any))
	if shown := h.run("maintenance", "show", tank).stdout; shown != "offline: disk swap, then fsck\n" {
		t.Errorf("maintenance show says %q", shown)
	}
	p.ask("get", at("groups"), nil).refused(t, http.StatusServiceUnavailable, "offline", "disk swap, then fsck")
	p.ask("put", "config/datastore/"+tank, params{"delete": "maintenance-mode", "digest": strings.Repeat("1", 64)}).refused(t, http.StatusBadRequest, "detected modified configuration")
	p.ask("put", "config/datastore/"+tank, params{"delete": "maintenance-mode"}).into(t, new(any))
	if h.config() != config {
		t.Errorf("after the maintenance, datastore.cfg is %s, want %s", h.config(), config)
	}

	p.ask("get", "admin/datastore/nope/groups", nil).refused(t, http.StatusNotFound, "no such datastore 'nope'")
	p.ask("put", "config/datastore/"+tank, params{"maintenance-mode": "type=offline"}).refused(t, http.StatusBadRequest, "type is the default key")
	p.ask("get", at("files"), snapshotParams(t, alpha).and(params{"backup-time": strconv.Itoa(1)})).refused(t, http.StatusNotFound, "no such snapshot")

	wrong := startPeer(t, s, s.tokens["admin"]+"x", cert)
	wrong.ask("get", "version", nil).refused(t, http.StatusUnauthorized, "authentication failed")
	small := startPeer(t, s, s.tokens["audit"], cert)
	small.ask("put", "config/datastore/"+tank, offline).refused(t, http.StatusForbidden, "role admin")
}
