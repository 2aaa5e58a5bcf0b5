package cfg

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// S3FileName is what the file with the servers of object storage is called; it lies beside
// datastore.cfg (reference "s3", section 9).
const S3FileName = "s3.cfg"

// endpointType is what its sections begin with.
const endpointType = "s3-endpoint"

// ErrNoEndpoint says that a server is not listed in s3.cfg.
var ErrNoEndpoint = errors.New("not configured in " + S3FileName)

// S3Endpoint is an entry of s3.cfg. It contains a secret.
type S3Endpoint struct {
	// Host is a name or an address, with placeholders, and with a port if that is given.
	Host                 string
	Region               string
	AccessKey, SecretKey string
	PathStyle            bool
	Fingerprint          string
}

// FindEndpoint returns an entry of an s3.cfg.
func FindEndpoint(file []byte, id string) (S3Endpoint, error) {
	c := ParseConfig(file)
	i := slices.IndexFunc(c.Sections, func(s section) bool { return s.Kind == endpointType && s.name == id })
	if i < 0 {
		return S3Endpoint{}, fmt.Errorf("s3-endpoint %q: %w", id, ErrNoEndpoint)
	}
	e := S3Endpoint{Region: defaultS3Region}
	for _, p := range c.Sections[i].props {
		switch p.key {
		case "endpoint":
			e.Host = p.value + e.Host
		case "port":
			e.Host += ":" + p.value
		case "region":
			e.Region = p.value
		case "access-key":
			e.AccessKey = p.value
		case "secret-key":
			e.SecretKey = p.value
		case "path-style":
			e.PathStyle = p.value == "true" || p.value == "1" || p.value == "yes" || p.value == "on"
		case "fingerprint":
			e.Fingerprint = p.value
		}
	}
	if e.Host == "" || e.Host[0] == ':' {
		return S3Endpoint{}, fmt.Errorf("s3-endpoint %q: it has no endpoint", id)
	}
	return e, nil
}

// WithEndpoint returns an s3.cfg with one more entry, or with another one of that name.
func WithEndpoint(file []byte, id string, e S3Endpoint) []byte {
	c := ParseConfig(WithoutEndpoint(file, id))
	var b bytes.Buffer
	b.Write(c.Bytes())
	if b.Len() > 0 && !bytes.HasSuffix(b.Bytes(), []byte("\n\n")) {
		b.WriteByte('\n')
	}
	host, port := e.Host, ""
	// An address of IPv6 without a port ends with a bracket.
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
	}
	fmt.Fprintf(&b, "%s: %s\n", endpointType, id)
	for _, p := range []Property{
		{"access-key", e.AccessKey},
		{"endpoint", host},
		{"fingerprint", e.Fingerprint},
		{"path-style", map[bool]string{true: "true"}[e.PathStyle]},
		{"port", port},
		{"region", e.Region},
		{"secret-key", e.SecretKey},
	} {
		if p.Value != "" {
			fmt.Fprintf(&b, "\t%s %s\n", p.Key, p.Value)
		}
	}
	return b.Bytes()
}

// WithoutEndpoint returns an s3.cfg without an entry.
func WithoutEndpoint(file []byte, id string) []byte {
	c := ParseConfig(file)
	for i := range c.Sections {
		if s := &c.Sections[i]; s.Kind == endpointType && s.name == id {
			return c.Removed(s)
		}
	}
	return file
}

// defaultS3Region is for what the server signs without a region.
const defaultS3Region = "us-west-1"
