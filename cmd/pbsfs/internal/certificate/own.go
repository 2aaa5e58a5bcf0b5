package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/maint/statefile"
)

// The files of our own pair.
const (
	certName = "serve.pem"
	keyName  = "serve.key"
	lockName = "serve.lck"
)

const (
	certMode = 0o644
	keyMode  = 0o600
	dirMode  = 0o700
)

const (
	validYears = 10
	// skew is how far the clocks of clients may be behind.
	skew = 24 * time.Hour
)

// Own returns the pair in dir, and makes it if there is none that can be used: made then
// is true. A new certificate is for hosts, which are names or addresses, and for this
// host.
func Own(dir string, hosts []string) (pair tls.Certificate, made bool, err error) {
	pair, err = own(dir)
	if !remake(err) {
		return pair, false, err
	}
	if err := statefile.MakeDir(dir, statefile.Owner{}, dirMode); err != nil {
		return tls.Certificate{}, false, fmt.Errorf("directory of the certificate: %w", err)
	}
	l, err := statefile.LockFile(context.Background(), filepath.Join(dir, lockName), statefile.Owner{}, keyMode)
	if err != nil {
		return tls.Certificate{}, false, fmt.Errorf("certificate: %w", err)
	}
	defer l.Unlock()
	if pair, err = own(dir); !remake(err) { // another process was first
		return pair, false, err
	}
	if err := write(dir, hosts, time.Now()); err != nil {
		return tls.Certificate{}, false, fmt.Errorf("making a certificate: %w", err)
	}
	pair, err = own(dir)
	return pair, err == nil, err
}

// own reads the pair in dir.
func own(dir string) (tls.Certificate, error) {
	return Load(filepath.Join(dir, certName), filepath.Join(dir, keyName))
}

// remake reports whether an error of own means that the pair is to be made anew.
func remake(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBroken) || errors.Is(err, ErrExpired)
}

// write makes a pair and puts it in dir. The certificate comes last: it counts only
// together with its key.
func write(dir string, hosts []string, now time.Time) error {
	certPEM, keyPEM, err := generate(hosts, now)
	if err != nil {
		return err
	}
	if err := statefile.ReplaceFile(filepath.Join(dir, keyName), keyPEM, statefile.Owner{}, keyMode); err != nil {
		return err
	}
	return statefile.ReplaceFile(filepath.Join(dir, certName), certPEM, statefile.Owner{}, certMode)
}

// generate makes a pair as PEM blocks.
func generate(hosts []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	c := &x509.Certificate{
		NotBefore: now.Add(-skew), NotAfter: now.AddDate(validYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if err := name(c, hosts); err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// name sets for which names and addresses the certificate is.
func name(c *x509.Certificate, hosts []string) error {
	all := []string{"localhost", "127.0.0.1", "::1"}
	c.Subject = pkix.Name{CommonName: "localhost"}
	if host, err := os.Hostname(); err == nil && isName(host) {
		c.Subject.CommonName = host
		all = append(all, host)
	}
	for _, h := range append(all, hosts...) {
		addr, err := netip.ParseAddr(h)
		switch {
		case err == nil && addr.IsUnspecified(), h == "": // listen on all addresses
		case err == nil:
			addIP(c, addr)
		case !isName(h):
			return fmt.Errorf("host %q: want an address, or a name of letters, digits, hyphens and dots", h)
		case !slices.Contains(c.DNSNames, h):
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return nil
}

// addIP adds an address. A zone means nothing to clients.
func addIP(c *x509.Certificate, addr netip.Addr) {
	ip := net.IP(addr.Unmap().AsSlice())
	if !slices.ContainsFunc(c.IPAddresses, ip.Equal) {
		c.IPAddresses = append(c.IPAddresses, ip)
	}
}

// isName reports whether a host can be in a certificate by that name.
func isName(host string) bool {
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}
