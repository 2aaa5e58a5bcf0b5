package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// The key of the fixture's server.
const (
	accessKey = "pbsfstestaccess"
	secretKey = "pbsfs-throwaway-secret"
)

// objectStore is a directory with the fixture's bucket, and a server that serves it.
type objectStore struct {
	t      testing.TB
	dir    string // of buckets
	server *exec.Cmd
	addr   string
	cert   *x509.Certificate // nil: without TLS
}

// peerServer is a server that 'make setup-peers' builds.
func peerServer(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs("../bin/peers/" + name)
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs a server that others wrote (make setup-peers): %v", err)
	}
	return path
}

// bucketCopy returns a copy of the fixture's bucket, with the version of each object.
func bucketCopy(t *testing.T) string {
	t.Helper()
	needRoot(t)
	from := filepath.Join(fixtureDir(t), "ds-s3")
	to := filepath.Join(tempDir(t), "buckets")
	tool(t, "cp", "-a", "--reflink=auto", filepath.Join(from, "bucket"), to)
	list, err := os.Open(filepath.Join(from, "objects.jsonl"))
	must(t, err)
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		var o struct{ Key, ETag string }
		must(t, json.Unmarshal(lines.Bytes(), &o))
		path := filepath.Join(to, "pbsbucket", o.Key)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		must(t, unix.Lsetxattr(path, "user.etag", []byte(`"`+strings.Trim(o.ETag, `"`)+`"`), 0))
	}
	return to
}

// startVersity serves a copy of the bucket with versitygw.
func startVersity(t *testing.T, withTLS bool) *objectStore {
	t.Helper()
	s := &objectStore{t: t, dir: bucketCopy(t), addr: freeAddress(t)}
	if withTLS {
		s.cert = s.certify()
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// start starts the server and waits until it answers.
func (s *objectStore) start() {
	s.t.Helper()
	args := []string{"--port", s.addr, "--keep-alive", "--quiet"}
	if s.cert != nil {
		args = append(args, "--cert", filepath.Join(s.dir, "../cert.pem"), "--key", filepath.Join(s.dir, "../key.pem"))
	}
	s.server = exec.Command(peerServer(s.t, "versitygw"), append(args, "posix", s.dir)...)
	s.server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	s.run()
}

func (s *objectStore) run() {
	s.t.Helper()
	var out bytes.Buffer
	s.server.Stdout, s.server.Stderr = &out, &out
	s.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(s.t, s.server.Start())
	err := within(patience, func() error {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	if err != nil {
		s.t.Fatalf("the server does not answer: %v: %s", err, &out)
	}
}

func (s *objectStore) stop() {
	_ = s.server.Process.Signal(syscall.SIGCONT)
	_ = s.server.Process.Kill()
	_ = s.server.Wait()
}

// certify makes a certificate for the server.
func (s *objectStore) certify() *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(s.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(s.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(s.t, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		must(s.t, os.WriteFile(filepath.Join(s.dir, "..", name), pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	must(s.t, err)
	return cert
}

// certFingerprint returns the SHA-256 of a certificate.
func certFingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// flags say how the server is reached.
func (s *objectStore) flags() []string {
	if s.cert == nil {
		return []string{"--endpoint", "http://" + s.addr}
	}
	return []string{"--endpoint", "https://" + s.addr, "--fingerprint", certFingerprint(s.cert)}
}

// startFake serves what is in the fixture's bucket with gofakes3, which has no TLS.
func startFake(t *testing.T) *objectStore {
	t.Helper()
	dir := bucketCopy(t)
	return startFakeWith(t, dir, func(path string) string { return strings.TrimPrefix(path, dir) })
}

// startFakeWith serves what is in a directory with gofakes3. at says where a file is to be.
func startFakeWith(t *testing.T, dir string, at func(path string) string) *objectStore {
	t.Helper()
	s := &objectStore{t: t, dir: dir, addr: freeAddress(t)}
	s.server = exec.Command(peerServer(t, "gofakes3"), "-backend", "memory", "-initialbucket", "pbsbucket", "-host", s.addr)
	s.run()
	t.Cleanup(s.stop)
	top := filepath.Join(s.dir, "pbsbucket")
	must(t, filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return put("http://"+s.addr+at(path), data)
	}))
	return s
}

// put stores an object.
func put(url string, data []byte) error {
	r, err := http.NewRequest(http.MethodPut, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s: %s: %s", url, answer.Status, text)
	}
	return nil
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// between is a TLS proxy before a server: it counts, delays, and spoils requests.
type between struct {
	*httptest.Server
	conns atomic.Int64                 // that are open
	delay atomic.Int64                 // nanoseconds before each answer
	line  atomic.Pointer[rate.Limiter] // bytes of answers a second; nil: no limit
	// spoil answers in the place of the server if it is set and returns true.
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]

	mu       sync.Mutex
	methods  map[string]int
	lists    int
	requests int
}

// startBetween starts a proxy before a server.
func startBetween(t testing.TB, s *objectStore) *between {
	t.Helper()
	return startBetweenAs(t, s, nil)
}

// startBetweenAs starts a proxy with a certificate; nil is one that is made up.
func startBetweenAs(t testing.TB, s *objectStore, cert *tls.Certificate) *between {
	t.Helper()
	b := &between{methods: make(map[string]int)}
	target, err := url.Parse("http://" + s.addr)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.count(r)
		if d := b.delay.Load(); d > 0 {
			select {
			case <-time.After(time.Duration(d)):
			case <-r.Context().Done():
			}
		}
		if spoil := b.spoil.Load(); spoil != nil && (*spoil)(w, r) {
			return
		}
		if l := b.line.Load(); l != nil {
			w = narrow{w, r.Context(), l}
		}
		proxy.ServeHTTP(w, r)
	}))
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			b.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			b.conns.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	if cert != nil {
		b.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	b.StartTLS()
	t.Cleanup(func() {
		b.CloseClientConnections()
		b.Close()
	})
	return b
}

// narrow writes no faster than a line is.
type narrow struct {
	http.ResponseWriter
	ctx  context.Context
	line *rate.Limiter
}

func (n narrow) Write(p []byte) (int, error) {
	if err := n.line.WaitN(n.ctx, len(p)); err != nil {
		return 0, err
	}
	return n.ResponseWriter.Write(p)
}

func (b *between) count(r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.methods[r.Method]++
	b.requests++
	if r.URL.Query().Has("list-type") {
		b.lists++
	}
}

// counted returns how many requests there were since the last call, and how many of them
// were listings.
func (b *between) counted() (requests, lists int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests, lists = b.requests, b.lists
	b.requests, b.lists = 0, 0
	return requests, lists
}

func (b *between) flags() []string {
	return []string{"--endpoint", b.URL, "--fingerprint", certFingerprint(b.Certificate())}
}

// bucketHost returns a host that has the key of the fixture's server.
func bucketHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	h.vars = append(h.vars, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey)
	return h
}

const cloud = "s3://pbsbucket/cloud"

// cloudKey opens the encrypted snapshots of the fixture's bucket.
func cloudKey(t *testing.T) []string {
	return []string{"--keyfile", filepath.Join(fixtureDir(t), "keys", "key-s3.json")}
}

// joined joins lists of arguments.
func joined(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// tail is the last part of a text, for messages.
func tail(s string) string { return fmt.Sprintf("%.2000s", s) }
