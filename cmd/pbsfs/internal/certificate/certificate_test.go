package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOwnCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lib", "pbsfs")
	pair, made, err := Own(dir, []string{"backup.example.org", "192.0.2.7", "fe80::7%eth0", "::ffff:192.0.2.7", "localhost", "", "0.0.0.0", "::"})
	if err != nil || !made {
		t.Fatalf("Own: made %v, %v", made, err)
	}
	for name, mode := range map[string]fs.FileMode{certName: 0o644, keyName: 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, st.Mode(), err, mode)
		}
	}
	c := pair.Leaf
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("public key %T, want one of P-256", c.PublicKey)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject.CommonName != host {
		t.Errorf("common name %q, want %q", c.Subject.CommonName, host)
	}
	for _, name := range []string{"backup.example.org", "192.0.2.7", "fe80::7", "localhost", "127.0.0.1", "::1", host} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"example.org", "0.0.0.0", "::", "192.0.2.8"} {
		if err := c.VerifyHostname(name); err == nil {
			t.Errorf("the certificate is for %s", name)
		}
	}
	if len(c.IPAddresses) != 4 {
		t.Errorf("addresses %v, want each once", c.IPAddresses)
	}
	if now := time.Now(); c.NotBefore.After(now) || c.NotAfter.Before(now.AddDate(10, 0, -1)) {
		t.Errorf("valid from %v to %v, want ten years", c.NotBefore, c.NotAfter)
	}
	again, made, err := Own(dir, []string{"other.example.org"})
	if err != nil || made || Fingerprint(again) != Fingerprint(pair) {
		t.Errorf("the second time: made %v, %v, want the same", made, err)
	}
}

// A client that trusts the certificate, and pins its fingerprint, gets through.
func TestOwnCertificateServes(t *testing.T) {
	pair, _, err := Own(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		c, err := l.Accept()
		if err == nil {
			err = errors.Join(c.(*tls.Conn).HandshakeContext(t.Context()), c.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
	if f := Fingerprint(tls.Certificate{Certificate: [][]byte{got}}); f != Fingerprint(pair) {
		t.Errorf("fingerprint %s, want %s", f, Fingerprint(pair))
	}
}

func TestFingerprint(t *testing.T) {
	c := tls.Certificate{Certificate: [][]byte{[]byte("abc"), []byte("chain")}}
	const want = "ba:78:16:bf:8f:01:cf:ea:41:41:40:de:5d:ae:22:23:b0:03:61:a3:96:17:7a:9c:b4:10:ff:61:f2:00:15:ad"
	if got := Fingerprint(c); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Fingerprint(tls.Certificate{}); got != "" {
		t.Errorf("of no certificate: %q", got)
	}
}

func TestStartsAtOnceHaveOnePair(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	var mu sync.Mutex
	seen, makers := map[string]bool{}, 0
	for range 8 {
		all.Go(func() {
			pair, made, err := Own(dir, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			seen[Fingerprint(pair)] = true
			if made {
				makers++
			}
		})
	}
	all.Wait()
	if len(seen) != 1 || makers != 1 {
		t.Errorf("%d makers and pairs %v, want one", makers, seen)
	}
}

func TestWhenAPairIsMadeAnew(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(dir string) error
		want  error // nil: it is made anew
	}{
		"expired":        {func(dir string) error { return write(dir, nil, time.Now().AddDate(-10, 0, -1)) }, nil},
		"no certificate": {func(dir string) error { return os.Remove(filepath.Join(dir, certName)) }, nil},
		"no key":         {func(dir string) error { return os.Remove(filepath.Join(dir, keyName)) }, nil},
		"killed between key and certificate": {func(dir string) error {
			_, key, err := generate(nil, time.Now())
			return errors.Join(err, os.WriteFile(filepath.Join(dir, keyName), key, 0o600))
		}, nil},
		"empty key":              {func(dir string) error { return os.Truncate(filepath.Join(dir, keyName), 0) }, nil},
		"cut off":                {func(dir string) error { return os.Truncate(filepath.Join(dir, certName), 100) }, nil},
		"key for everybody":      {func(dir string) error { return os.Chmod(filepath.Join(dir, keyName), 0o644) }, ErrExposed},
		"writable for the group": {func(dir string) error { return os.Chmod(filepath.Join(dir, certName), 0o664) }, ErrExposed},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			was, _, err := Own(dir, nil)
			if err == nil {
				err = c.spoil(dir)
			}
			if err != nil {
				t.Fatal(err)
			}
			keyBefore := contents(t, dir, keyName)
			now, made, err := Own(dir, nil)
			if c.want != nil {
				if !errors.Is(err, c.want) || made || !bytes.Equal(keyBefore, contents(t, dir, keyName)) {
					t.Errorf("made %v, %v, want %v and the old files", made, err, c.want)
				}
				return
			}
			if err != nil || !made || Fingerprint(now) == Fingerprint(was) {
				t.Errorf("made %v, %v, want a new pair", made, err)
			}
			if _, made, err := Own(dir, nil); made || err != nil {
				t.Errorf("and again: made %v, %v", made, err)
			}
		})
	}
}

func contents(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return text
}

func TestHostsThatCannotBeNamed(t *testing.T) {
	for _, host := range []string{"a b", "bücher.example", "a..b", "-a", "a-", "host:8007", "[::1]", "*", strings.Repeat("a", 64)} {
		dir := t.TempDir()
		if _, made, err := Own(dir, []string{host}); err == nil || made || !strings.Contains(err.Error(), host) {
			t.Errorf("%q: made %v, %v, want an error that names it", host, made, err)
		}
	}
}

const lockedKey = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certPEM, keyPEM, err := generate([]string{"a.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	oldCert, oldKey, err := generate(nil, time.Now().AddDate(-10, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := file("cert", 0o644, certPEM), file("key", 0o640, keyPEM)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("key", link); err != nil {
		t.Fatal(err)
	}
	both := file("both", 0o600, append(bytes.Clone(keyPEM), certPEM...))
	for what, c := range map[string]struct {
		cert, key string
		names     string // in the error; "" for none
		want      error
	}{
		"good": {cert, key, "", nil}, "a link": {cert, link, "", nil}, "one file": {both, both, "", nil},
		"no certificate": {filepath.Join(dir, "none"), key, "/none", fs.ErrNotExist}, "no key": {cert, filepath.Join(dir, "none"), "/none", fs.ErrNotExist},
		"expired":           {file("old", 0o644, oldCert), file("oldkey", 0o600, oldKey), "/old", ErrExpired},
		"exposed":           {cert, file("open", 0o644, keyPEM), "chmod 0640 " + dir + "/open", ErrExposed},
		"of something else": {cert, dir + "/oldkey", "/oldkey", errBroken}, "exchanged": {key, cert, "/cert", ErrExposed},
		"locked": {cert, file("locked", 0o600, []byte(lockedKey)), "/locked", nil}, "directory": {cert, dir, dir, nil},
	} {
		pair, err := Load(c.cert, c.key)
		if c.names == "" {
			if err != nil || pair.Leaf.VerifyHostname("a.example.org") != nil {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.names) || pair.Leaf != nil {
			t.Errorf("%s: %v, want %v that names %s", what, err, c.want, c.names)
		}
	}
}

func TestFingerprintIsWrittenAsTheServerDoes(t *testing.T) {
	pair, _, err := Own(t.TempDir(), []string{net.IPv6loopback.String()})
	if err != nil {
		t.Fatal(err)
	}
	if f := Fingerprint(pair); !regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){31}$`).MatchString(f) {
		t.Errorf("fingerprint %q", f)
	}
}
