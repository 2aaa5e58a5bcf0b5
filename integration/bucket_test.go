package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBucketEqualsTruth(t *testing.T) {
	servers := map[string]func(*testing.T) (flags []string){
		"versitygw over TLS": func(t *testing.T) []string { return startVersity(t, true).flags() },
		"gofakes3 behind TLS": func(t *testing.T) []string {
			return startBetween(t, startFake(t)).flags()
		},
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			flags := start(t)
			for store, known := range map[string]string{cloud: "ds-s3", cloud + "2": "ds-s3-near"} {
				m := bucketHost(t).mount(store, joined(flags, cloudKey(t))...)
				checkTruth(t, m.dir, truth(t, known))
				m.unmount()
			}
		})
	}
}

// What the server's own cache directory shows of a datastore is what the bucket shows.
func TestBucketEqualsItsCacheDirectory(t *testing.T) {
	s := startVersity(t, false)
	cache := filepath.Join(tempDir(t), "cloud2")
	tool(t, "cp", "-a", filepath.Join(fixtureDir(t), "ds-s3/cache/cloud2"), cache)
	h := bucketHost(t)
	far, near := h.mount(cloud+"2", s.flags()...), h.mount(cache, "--cached-only")
	tool(t, "diff", "-r", "--no-dereference", far.dir, near.dir)
}

// Every command that reads says of a bucket what it says of a directory with the same files.
func TestBucketCommandsAreThoseOfADirectory(t *testing.T) {
	s := startVersity(t, false)
	h := bucketHost(t)
	local := filepath.Join(tempDir(t), "cloud")
	top := filepath.Join(s.dir, "pbsbucket/cloud")
	tool(t, "cp", "-a", filepath.Join(top, ".cnt"), local)
	tool(t, "cp", "-a", filepath.Join(top, ".chunks"), local)
	tool(t, "find", local, "-name", ".sgwtmp*", "-prune", "-exec", "rm", "-r", "{}", "+")
	key := cloudKey(t)
	image := "vm/300/2025-11-02T12:31:40Z/drive-scsi0.img"
	tests := [][]string{
		{"ls", "-l", "PLACE", "host/split/latest/"},
		{"cat", "PLACE", "host/vault/latest/index.json"},
		{"find", "PLACE", "--name", "*.conf", "--json"},
		{"find", "PLACE", "ns", "--type", "d"},
		{"history", "PLACE", "vm/300/drive-scsi0.img"},
		{"diff", "PLACE", "host/split/2025-11-01T12:28:20Z", "host/split/latest"},
		{"diff", "PLACE", "vm/300/2025-11-01T12:31:40Z/drive-scsi0.img", image, "--json"},
		{"usage", "PLACE", "--stored", "--json"},
		{"verify", "PLACE", "host/vault", "vm", "ns"},
		{"verify", "PLACE", "host/hurt"},
		{"restore", "PLACE", "host/split/latest/", "TARGET", "--exclude", "special/"}, // diff knows no pipes
		{"restore", "PLACE", image, "TARGET"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt, " "), func(t *testing.T) {
			run := func(place string, more ...string) (result, string) {
				to := filepath.Join(tempDir(t), "target")
				line := joined(tt, key, more)
				for i := range line {
					line[i] = strings.NewReplacer("PLACE", place, "TARGET", to).Replace(line[i])
				}
				return h.run(line...), to
			}
			far, farTo := run(cloud, s.flags()...)
			near, nearTo := run(local)
			// What is above the archives has the times and owners of other files.
			if tt[0] != "ls" && steady(far.stdout) != steady(near.stdout) || far.code != near.code {
				t.Errorf("bucket: %d\n%s%s\ndirectory: %d\n%s%s", far.code, tail(far.stdout), far.stderr, near.code, tail(near.stdout), near.stderr)
			}
			if tt[0] == "restore" && far.code == 0 {
				tool(t, "diff", "-r", "--no-dereference", farTo, nearTo)
			}
		})
	}
}

// steady leaves out of an output what depends on the clock.
func steady(out string) string {
	return regexp.MustCompile(`(?m)read [0-9.]+ [KMG]?i?B in .*$|"seconds":[0-9.]+|"(bytes_read|rate)":[0-9]+`).ReplaceAllString(out, "")
}

// A bucket is only read, by requests that a key without the right to write may make, and an
// idle mount has no connection.
func TestBucketIsOnlyRead(t *testing.T) {
	s := startVersity(t, false)
	b := startBetween(t, s)
	before := tool(t, "find", s.dir, "-type", "f", "-printf", "%p %s %T@ %C@\n")
	m := bucketHost(t).mount(cloud, joined(b.flags(), cloudKey(t))...)
	checkTruth(t, m.dir, truth(t, "ds-s3"))
	eventually(t, "no connection is open", func() error {
		if n := b.conns.Load(); n > 0 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	m.unmount()
	b.mu.Lock()
	defer b.mu.Unlock()
	for method, n := range b.methods {
		if method != http.MethodGet && method != http.MethodHead {
			t.Errorf("%d requests %s", n, method)
		}
	}
	if after := tool(t, "find", s.dir, "-type", "f", "-printf", "%p %s %T@ %C@\n"); after != before {
		t.Errorf("the bucket has changed:\n%s\nwas\n%s", tail(after), tail(before))
	}
}

// Names cost a listing a group, and the names in an archive cost what its metadata costs.
func TestBucketRequests(t *testing.T) {
	b := startBetween(t, startVersity(t, false))
	m := bucketHost(t).mount(cloud, joined(b.flags(), []string{"--refresh", "1h"})...)
	b.counted()
	tool(t, "ls", "-l", m.path("host/atlas"))
	// The top, the type, and the group; the manifest of each snapshot, owner and notes.
	if n, lists := b.counted(); lists > 3 || n-lists > 4 {
		t.Errorf("listing a group: %d listings, %d objects", lists, n-lists)
	}
	names := 0
	must(t, filepath.WalkDir(m.path("host/split"), func(_ string, _ os.DirEntry, err error) error {
		names++
		return err
	}))
	n, lists := b.counted()
	t.Logf("%d names of a group with two split snapshots: %d requests, of which %d listings", names, n, lists)
	if names < 1000 || lists > 1 || n > 40 {
		t.Errorf("%d names: %d requests, %d listings", names, n, lists)
	}
	tool(t, "find", m.path("host/split"), "-newer", m.path("host"))
	if n, _ := b.counted(); n > 1 { // the owner, who may change
		t.Errorf("%d requests for names that are remembered", n)
	}
}

func TestBucketOfAnotherProcessChanges(t *testing.T) {
	s := startVersity(t, false)
	m := bucketHost(t).mount(cloud, joined(s.flags(), []string{"--refresh", "200ms"})...)
	group := filepath.Join(s.dir, "pbsbucket/cloud/.cnt/host/atlas")
	snaps, err := filepath.Glob(group + "/20*")
	must(t, err)
	from, to := snaps[0], filepath.Join(group, "2025-12-24T12:00:00Z")
	must(t, os.Mkdir(to, 0o755))
	entries, err := os.ReadDir(from)
	must(t, err)
	for _, f := range entries {
		if f.Name() != "index.json.blob" {
			tool(t, "cp", "-a", filepath.Join(from, f.Name()), to)
		}
	}
	show := m.path("host/atlas/2025-12-24T12:00:00Z")
	if _, err := os.Stat(show); err == nil {
		t.Error("an unfinished snapshot is shown")
	}
	tool(t, "cp", "-a", filepath.Join(from, "index.json.blob"), to)
	eventually(t, "the new snapshot is shown", func() error {
		_, err := os.Stat(show)
		return err
	})
	must(t, os.RemoveAll(to))
	eventually(t, "the removed snapshot is gone", func() error { return stillThere(show) })
}

// What is deleted under an open file gives errors, as it does in a directory, and no other
// bytes.
func TestBucketIsCollectedUnderAReader(t *testing.T) {
	s := startVersity(t, false)
	m := bucketHost(t).mount(cloud, joined(s.flags(), []string{"--refresh", "200ms", "--cache-size", "1M"})...)
	path, content := wholeImage(t, m)
	tool(t, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, os.RemoveAll(filepath.Join(s.dir, "pbsbucket/cloud/.cnt/vm/300/2025-11-02T12:31:40Z")))
	must(t, os.RemoveAll(filepath.Join(s.dir, "pbsbucket/cloud/.chunks")))
	buf, failed := make([]byte, piece), 0
	for off := int64(0); off+piece <= int64(len(content)); off += 1 << 20 {
		switch n, err := f.ReadAt(buf, off); {
		case errors.Is(err, unix.ESTALE), errors.Is(err, unix.EIO), errors.Is(err, fs.ErrNotExist):
			failed++
		case err != nil:
			t.Fatalf("at %d: %v", off, err)
		case !bytes.Equal(buf[:n], content[off:off+int64(n)]):
			t.Fatalf("wrong bytes at %d", off)
		}
	}
	if failed == 0 {
		t.Error("everything can still be read")
	}
	eventually(t, "the snapshot is gone", func() error { return stillThere(filepath.Dir(path)) })
}

// stillThere returns an error as long as a path exists.
func stillThere(path string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s is still there (%w)", path, err)
}

func TestBucketByName(t *testing.T) {
	s := startVersity(t, true)
	h := newHost(t) // without a key
	config := filepath.Join(h.dir, "config")
	write := func(file, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(config, file), []byte(text), 0o600))
	}
	addr, port, _ := strings.Cut(s.addr, ":")
	write("s3.cfg", "s3-endpoint: here\n\taccess-key "+accessKey+"\n\tendpoint "+addr+"\n\tport "+port+"\n\tpath-style true\n\tfingerprint "+
		strings.ToUpper(certFingerprint(s.cert))+"\n\tregion us-east-1\n\tsecret-key "+secretKey+"\n")
	write("datastore.cfg", "datastore: cloud\n\tpath /nowhere/cloud\n\tbackend bucket=pbsbucket,type=s3,client=here\n")
	m := h.mount("cloud")
	if names, err := readNames(m.path("host/atlas")); err != nil || len(names) < 3 {
		t.Errorf("host/atlas has %q, %v", names, err)
	}
	f, err := os.Open(m.path("host/atlas/latest/index.json"))
	must(t, err)
	h.run("maintenance", "set", "cloud", "offline", "--wait", "0s").want(t, 3)
	must(t, f.Close())
	h.run("maintenance", "set", "cloud", "offline", "--wait", patience.String()).want(t, 0)
	_, err = os.Open(m.path("host/atlas/latest/index.json"))
	wantErrno(t, "open in offline", err, unix.EHOSTDOWN)
	h.run("ls", "cloud").want(t, 4)
	h.run("ls", cloud).want(t, 4) // the same one
	h.run("maintenance", "clear", "cloud").want(t, 0)
	if got := h.run("cat", cloud, "host/atlas/latest/index.json"); got.code != 0 || !strings.Contains(got.stdout, `"atlas"`) {
		t.Errorf("cat: %+v", got)
	}
	write("datastore.cfg", "datastore: cloud\n\tpath /nowhere/cloud\n\tbackend bucket=pbsbucket,type=s3,client=there\n")
	if got := h.run("ls", "cloud"); got.code != 1 || !strings.Contains(got.stderr, `"there"`) {
		t.Errorf("a server that is not in s3.cfg: %+v", got)
	}
}

func TestBucketAdd(t *testing.T) {
	s := startVersity(t, true)
	h := bucketHost(t)
	h.run(joined([]string{"datastore", "add", "other", cloud}, s.flags())...).want(t, 2)
	h.run(joined([]string{"datastore", "add", "cloud", cloud}, s.flags())...).want(t, 0)
	h.run(joined([]string{"datastore", "add", "cloud", cloud}, s.flags())...).want(t, 1)
	secret := filepath.Join(h.dir, "config", "s3.cfg")
	if info, err := os.Stat(secret); err != nil || info.Mode() != 0o600 {
		t.Errorf("s3.cfg: %v, %v", info.Mode(), err)
	}
	h.vars = append(h.vars, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
	if got := h.run("ls", "cloud", "host"); got.code != 0 || !strings.Contains(got.stdout, "atlas\n") {
		t.Errorf("ls: %+v", got)
	}
	if got := h.run("datastore", "list"); !strings.Contains(got.stdout, cloud) || strings.Contains(got.stdout, secretKey) {
		t.Errorf("list: %+v", got)
	}
	h.run("datastore", "remove", "cloud").want(t, 0)
	if text, err := os.ReadFile(secret); err != nil || len(text) > 0 {
		t.Errorf("s3.cfg: %q, %v", text, err)
	}
}

func TestBucketBadInput(t *testing.T) {
	s := startVersity(t, true)
	plain := startVersity(t, false)
	good := s.flags()
	wrong := strings.Repeat("ab", 32)
	tests := []struct {
		name string
		args []string
		vars []string
		code int
		says string
	}{
		{"no store", []string{"s3://pbsbucket"}, nil, 2, "s3://BUCKET/STORE"},
		{"bad bucket", joined([]string{"s3://PBS_bucket/cloud"}, good), nil, 2, "not the name of a bucket"},
		{"bad endpoint", []string{cloud, "--endpoint", "ftp://x"}, nil, 2, "neither https nor http"},
		{"bad port", []string{cloud, "--endpoint", "localhost:70000"}, nil, 2, "no port"},
		{"bad fingerprint", []string{cloud, "--endpoint", s.addr, "--fingerprint", "12:34"}, nil, 2, "not a fingerprint"},
		{"bad region", joined([]string{cloud, "--region", "here and there"}, good), nil, 2, "not the name of a region"},
		{"parallel", joined([]string{cloud, "--parallel", "0"}, good), nil, 2, "--parallel"},
		{"nobody listens", []string{cloud, "--endpoint", "https://127.0.0.1:9"}, nil, 4, "nobody listens"},
		{"no such host", []string{cloud, "--endpoint", "nowhere.invalid"}, nil, 4, "name is not known"},
		{"not trusted", []string{cloud, "--endpoint", s.addr}, nil, 1, "--fingerprint " + colons(certFingerprint(s.cert))},
		{"another certificate", []string{cloud, "--endpoint", s.addr, "--fingerprint", wrong}, nil, 1, "not " + colons(wrong)},
		{"not TLS", []string{cloud, "--endpoint", "https://" + plain.addr}, nil, 1, "does not speak TLS"},
		{"wrong region", joined([]string{cloud, "--region", "eu-north-7"}, good), nil, 1, "--region"},
		{"wrong secret", joined([]string{cloud}, good), []string{"AWS_SECRET_ACCESS_KEY=no"}, 1, "secret key is wrong"},
		{"wrong key", joined([]string{cloud}, good), []string{"AWS_ACCESS_KEY_ID=nobody"}, 1, "access key is not known"},
		{"no key", joined([]string{cloud}, good), []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"}, 1, "denied"},
		{"no such bucket", joined([]string{"s3://pbsbuckets/cloud"}, good), nil, 4, "no such bucket"},
		{"no such store", joined([]string{"s3://pbsbucket/clou"}, good), nil, 4, "no object below clou/"},
		{"no such path", joined([]string{cloud, "host/atlantis"}, good), nil, 1, "atlas"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := bucketHost(t)
			h.vars = append(h.vars, tt.vars...)
			got := h.run(joined([]string{"ls", "--timeout", "1s"}, tt.args)...)
			got.want(t, tt.code)
			if !strings.Contains(got.stderr, tt.says) {
				t.Errorf("stderr: %s; want %q", got.stderr, tt.says)
			}
			if strings.Contains(got.stderr, secretKey) {
				t.Errorf("the secret is told: %s", got.stderr)
			}
		})
	}
}

// A certificate counts for the name or the address that it was made for.
func TestBucketCertificates(t *testing.T) {
	backend := startVersity(t, false)
	authority, authorityKey := issue(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	trusted := filepath.Join(tempDir(t), "authority.pem")
	must(t, os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}), 0o600))
	localhost := net.IPv4(127, 0, 0, 1)
	tests := []struct {
		name string
		cert x509.Certificate
		ok   bool
	}{
		{"for the address", x509.Certificate{IPAddresses: []net.IP{localhost}}, true},
		{"for another address", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}, false},
		{"for a name", x509.Certificate{DNSNames: []string{"s3.example.com"}}, false},
		{"expired", x509.Certificate{IPAddresses: []net.IP{localhost}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert, key := issue(t, &tt.cert, authority, authorityKey)
			b := startBetweenAs(t, backend, &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
			h := bucketHost(t)
			h.vars = append(h.vars, "SSL_CERT_FILE="+trusted, "SSL_CERT_DIR=/nonexistent")
			got := h.run("ls", cloud, "--endpoint", b.URL, "--timeout", "1s")
			if (got.code == 0) != tt.ok || !tt.ok && !strings.Contains(got.stderr, colons(certFingerprint(cert))) {
				t.Errorf("%+v", got)
			}
			h.run("ls", cloud, "--endpoint", b.URL, "--timeout", "1s", "--fingerprint", certFingerprint(cert)).want(t, 0)
		})
	}
}

// issue makes a certificate; without an authority it signs itself.
func issue(t *testing.T, c, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber = big.NewInt(1)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if authority == nil {
		authority, authorityKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, authority, &key.PublicKey, authorityKey)
	must(t, err)
	out, err := x509.ParseCertificate(der)
	must(t, err)
	return out, key
}

// colons writes hexadecimal digits as fingerprints are written.
func colons(digits string) string {
	var pairs []string
	for ; digits != ""; digits = digits[2:] {
		pairs = append(pairs, digits[:2])
	}
	return strings.Join(pairs, ":")
}

// A clock that is wrong, a key that may not do everything, and a server that answers
// rubbish are told apart.
func TestBucketRefusals(t *testing.T) {
	b := startBetween(t, startVersity(t, false))
	answer := func(code int, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	coded := func(code string) string {
		return `<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>told</Message></Error>`
	}
	tests := []struct {
		name  string
		spoil func(http.ResponseWriter, *http.Request) bool
		code  int
		says  string
	}{
		{"clock", answer(403, coded("RequestTimeTooSkewed")), 1, "clock"},
		{"may not list", answer(403, coded("AccessDenied")), 1, "s3:ListBucket"},
		{"overloaded", answer(503, coded("SlowDown")), 4, "overloaded"},
		{"too many", answer(429, coded("TooManyRequests")), 4, "overloaded"},
		{"fails", answer(500, coded("InternalError")), 4, "it has failed"},
		{"rubbish", answer(200, "<html><body>Welcome!</html>"), 1, "cannot be understood"},
		{"another service", answer(404, "<html>"), 4, "no such bucket"},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) }, 4, "connection"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.spoil.Store(&tt.spoil)
			got := bucketHost(t).run(joined([]string{"ls", cloud, "--timeout", "1s"}, b.flags())...)
			got.want(t, tt.code)
			if !strings.Contains(got.stderr, tt.says) {
				t.Errorf("stderr: %s; want %q", got.stderr, tt.says)
			}
		})
	}
	// Some prefixes are closed: what is not is read.
	closed := func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path+r.URL.RawQuery, "vault") && answer(403, coded("AccessDenied"))(w, r)
	}
	b.spoil.Store(&closed)
	m := bucketHost(t).mount(cloud, joined(b.flags(), []string{"--timeout", "1s"})...)
	_, err := os.ReadDir(m.path("host/vault"))
	wantErrno(t, "a group that is closed", err, unix.EIO)
	if _, err := os.ReadFile(m.path("host/atlas/latest/index.json")); err != nil {
		t.Error(err)
	}
	if len(m.logLines("access is denied")) == 0 {
		t.Error("the log does not say that access is denied")
	}
}

func TestBucketSlowButSteady(t *testing.T) {
	b := startBetween(t, startVersity(t, false))
	b.delay.Store(int64(300 * time.Millisecond))
	m := bucketHost(t).mount(cloud, joined(b.flags(), []string{"--timeout", "1s"})...)
	if _, err := os.ReadFile(m.path("host/atlas/latest/index.json")); err != nil {
		t.Error(err)
	}
}
