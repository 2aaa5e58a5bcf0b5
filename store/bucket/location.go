package bucket

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Scheme begins the argument of a command that means a datastore in a bucket.
const Scheme = "s3://"

// Location is where a datastore lies in object storage. The zero Location is nowhere.
type Location struct {
	// Endpoint is the host, with a port if it is not the usual one.
	Endpoint string
	// Plain says that the connection is not encrypted.
	Plain bool
	// Region is what requests are signed for.
	Region string
	Bucket string
	// Store is the name of the datastore, with which each of its keys begins.
	Store string
	// PathStyle puts the bucket into the path of each request. Otherwise it stands before
	// the host, if the host is a name.
	PathStyle bool
	// Fingerprint is the SHA-256 of the server's certificate, if that is not signed by an
	// authority of this machine.
	Fingerprint Fingerprint
}

// Credentials are the access key with which requests are signed. Zero Credentials are
// looked for in the environment, in the shared configuration of other programs, and in the
// metadata of the machine.
type Credentials struct{ AccessKey, SecretKey string }

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// String keeps the secret out of messages.
func (c Credentials) String() string { return c.AccessKey }

// GoString keeps the secret out of messages.
func (c Credentials) GoString() string { return c.AccessKey }

// String returns the location in the form of an argument.
func (l Location) String() string { return Scheme + l.Bucket + "/" + l.Store }

// Server returns the address of the server.
func (l Location) Server() string {
	if l.Plain {
		return "http://" + l.Endpoint
	}
	return "https://" + l.Endpoint
}

// Host returns the server's name or address, without a port.
func (l Location) Host() string {
	u, err := url.Parse("https://" + l.Endpoint)
	if err != nil {
		return l.Endpoint
	}
	return u.Hostname()
}

// IsZero reports whether the location is nowhere.
func (l Location) IsZero() bool { return l.Bucket == "" }

var (
	bucketRule = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	storeRule  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{2,31}$`)
	regionRule = regexp.MustCompile(`^[A-Za-z0-9-]{1,32}$`)
	hostRule   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

// Parse reads an argument "s3://BUCKET/STORE".
func Parse(arg string) (Location, error) {
	rest, ok := strings.CutPrefix(arg, Scheme)
	bucket, store, both := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if !ok || !both {
		return Location{}, fmt.Errorf("%q names no datastore in a bucket; write s3://BUCKET/STORE", arg)
	}
	l := Location{Bucket: bucket, Store: store}
	return l, l.checkNames()
}

func (l Location) checkNames() error {
	switch {
	case !bucketRule.MatchString(l.Bucket) || strings.Contains(l.Bucket, ".."):
		return fmt.Errorf("%q is not the name of a bucket: 3 to 63 of a-z, 0-9, '.', '-'", l.Bucket)
	case !storeRule.MatchString(l.Store):
		return fmt.Errorf("%q is not the name of a datastore: 3 to 32 letters, digits, '.', '_', '-'", l.Store)
	}
	return nil
}

// The defaults: those of Amazon without an endpoint, and for any other endpoint a region
// that most servers accept.
const (
	defaultRegion = "us-east-1"
	amazon        = "s3.{{region}}.amazonaws.com"
)

// At completes the location: endpoint is a host or URL, with the placeholders of PBS.
func (l Location) At(endpoint, region string, pathStyle bool, fingerprint string) (Location, error) {
	var err error
	l.Region, l.PathStyle = cmp.Or(region, defaultRegion), pathStyle
	if !regionRule.MatchString(l.Region) {
		return Location{}, fmt.Errorf("%q is not the name of a region", region)
	}
	if fingerprint != "" {
		if l.Fingerprint, err = ParseFingerprint(fingerprint); err != nil {
			return Location{}, err
		}
	}
	host := strings.ReplaceAll(cmp.Or(endpoint, amazon), "{{region}}", l.Region)
	if host, l.Plain, err = splitURL(host); err != nil {
		return Location{}, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	inHost := false
	for _, before := range []string{"{{bucket}}.", l.Bucket + "."} { // the library puts it there
		if rest, ok := strings.CutPrefix(host, before); ok && !pathStyle {
			host, inHost = rest, true
			break
		}
	}
	if strings.Contains(host, "{{") {
		return Location{}, fmt.Errorf("endpoint %q: {{bucket}} must be its first part, and there is no other placeholder but {{region}}", endpoint)
	}
	if l.Endpoint, err = checkHost(host); err != nil {
		return Location{}, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	if endpoint != "" && !inHost {
		l.PathStyle = true // a server that is not Amazon's has one name, unless it says so
	}
	return l, nil
}

// splitURL takes the scheme from an endpoint.
func splitURL(endpoint string) (host string, plain bool, err error) {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok {
		return endpoint, false, nil
	}
	rest = strings.TrimSuffix(rest, "/")
	switch strings.ToLower(scheme) {
	case "https":
		return rest, false, nil
	case "http":
		return rest, true, nil
	}
	return "", false, fmt.Errorf("scheme %q is neither https nor http", scheme)
}

// checkHost checks a host with or without a port.
func checkHost(host string) (string, error) {
	u, err := url.Parse("https://" + host)
	if err != nil || u.Host != host {
		return "", errors.New("not a host, with or without a port")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("%q is no port", p)
		}
	}
	if name := u.Hostname(); net.ParseIP(name) == nil && !hostRule.MatchString(name) {
		return "", errors.New("not the name of a host")
	}
	return host, nil
}

// Fingerprint is the SHA-256 of a certificate. The zero Fingerprint is none.
type Fingerprint [32]byte

// ParseFingerprint reads 64 hexadecimal digits, with or without colons.
func ParseFingerprint(s string) (Fingerprint, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(Fingerprint{}) {
		return Fingerprint{}, fmt.Errorf("%q is not a fingerprint: 32 bytes in hexadecimal digits, with or without colons", s)
	}
	return Fingerprint(b), nil
}

// String writes the fingerprint with colons.
func (f Fingerprint) String() string {
	var b strings.Builder
	for i, c := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

// IsZero reports whether there is none.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }
