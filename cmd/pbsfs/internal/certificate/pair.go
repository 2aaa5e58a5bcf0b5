package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/statefile"
)

var (
	// ErrExposed says that everybody can read a key, or that others can write a file.
	ErrExposed = errors.New("other users can get at it")
	// ErrExpired says that a certificate is no longer valid.
	ErrExpired = errors.New("certificate has expired")
	// errBroken says that files are not a certificate and its key.
	errBroken = errors.New("not a certificate and its key")
)

// maxFile bounds both files in bytes; a long chain has some ten thousand.
const maxFile = 1 << 20

// Load returns the certificate, with its chain, in a file of PEM blocks, and its key in
// another one, which may be the same.
func Load(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := read(certFile, 0o022)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	keyPEM, err := read(keyFile, 0o026) // a group may read it
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key of the certificate: %w", err)
	}
	if locked(keyPEM) {
		return tls.Certificate{}, fmt.Errorf("key file %s has a passphrase; store the key without one (openssl pkey)", keyFile)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s, key %s: %w: %w", certFile, keyFile, errBroken, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return tls.Certificate{}, fmt.Errorf("%s: %w on %s; renew it", certFile, ErrExpired, end.Format(time.DateOnly))
	}
	return pair, nil
}

// read reads a file unless it has one of the permissions in bad. It follows symbolic
// links: programs that renew certificates put them there.
func read(path string, bad fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); info.Mode().IsRegular() && perm&bad != 0 {
		return nil, fmt.Errorf("%s: %w (mode %04o); run chmod %04o %s", path, ErrExposed, perm, perm&^bad, path)
	}
	return statefile.ReadOpen(f, maxFile)
}

// locked reports whether a key needs a passphrase.
func locked(text []byte) bool {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return false
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
}

// Fingerprint returns the SHA-256 of a certificate as Proxmox Backup Server prints it:
// pairs of lower-case hexadecimal digits with colons between them.
func Fingerprint(c tls.Certificate) string {
	if len(c.Certificate) == 0 {
		return ""
	}
	sum := sha256.Sum256(c.Certificate[0])
	return strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":")
}
