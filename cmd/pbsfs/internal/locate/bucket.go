package locate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/bucket"
)

// Bucket is what is known of a datastore in a bucket.
type Bucket struct {
	bucket.Location
	// Client is the entry of s3.cfg for its server, and File that s3.cfg; "" if the
	// datastore is not configured.
	Client, File string
}

// resolveBucket finds the datastore that "s3://BUCKET/STORE" names: the configured one, if
// there is one, so that its modes bind.
func resolveBucket(host hosts.Host, configured []cfg.Datastore, arg string) (Target, error) {
	at, err := bucket.Parse(arg)
	if err != nil {
		return Target{}, usage.New(err)
	}
	for _, d := range configured {
		if d.S3() && d.Bucket == at.Bucket && d.Name == at.Store {
			return TargetOf(host, configured, d), nil
		}
	}
	return Target{Name: modes.PathName(at.String()), Path: at.String(), S3: true, Bucket: &Bucket{Location: at}}, nil
}

// bucketOf returns the bucket that an entry names, nil if it names none.
func bucketOf(d cfg.Datastore) *Bucket {
	if !d.S3() || d.Bucket == "" {
		return nil
	}
	return &Bucket{
		Location: bucket.Location{Bucket: d.Bucket, Store: d.Name},
		Client:   d.Client, File: filepath.Join(filepath.Dir(d.File), cfg.S3FileName),
	}
}

// Server says how a server is reached. What is not given comes from s3.cfg, and from the
// environment.
type Server struct {
	Endpoint, Region, Fingerprint string
	PathStyle                     bool
}

// Complete adds to the bucket how it is reached.
func (b *Bucket) Complete(given Server, getenv func(string) string) (*store.Bucket, error) {
	out := &store.Bucket{}
	if b.Client != "" && given.Endpoint == "" {
		e, err := b.endpoint()
		if err != nil {
			return nil, err
		}
		given = Server{Endpoint: e.Host, Region: e.Region, Fingerprint: e.Fingerprint, PathStyle: e.PathStyle}
		out.Credentials = bucket.Credentials{AccessKey: e.AccessKey, SecretKey: e.SecretKey}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		if given.Endpoint == "" {
			given.Endpoint = getenv(name)
		}
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if given.Region == "" {
			given.Region = getenv(name)
		}
	}
	var err error
	if out.Location, err = b.At(given.Endpoint, given.Region, given.PathStyle, given.Fingerprint); err != nil {
		return nil, usage.New(err)
	}
	return out, nil
}

// endpoint reads the entry of s3.cfg.
func (b *Bucket) endpoint() (cfg.S3Endpoint, error) {
	data, err := os.ReadFile(b.File)
	if errors.Is(err, fs.ErrPermission) {
		return cfg.S3Endpoint{}, fmt.Errorf("%s has the access key, and only root and the server may read it; --endpoint and the environment say it instead", b.File)
	}
	if err != nil {
		return cfg.S3Endpoint{}, err
	}
	e, err := cfg.FindEndpoint(data, b.Client)
	if err != nil {
		return e, fmt.Errorf("%s: %w", b.File, err)
	}
	return e, nil
}

// bucketCaches is where a server would keep copies. An entry of datastore.cfg must name such
// a directory; nothing is kept there.
const bucketCaches = "/var/cache/pbsfs/buckets"

// AddBucket configures a datastore in a bucket. Its Path is the argument that names it.
func AddBucket(ctx context.Context, host hosts.Host, d cfg.Datastore, given Server, getenv func(string) string) error {
	at, err := bucket.Parse(d.Path)
	if err != nil {
		return usage.New(err)
	}
	if d.Name != at.Store {
		return usage.Errorf("datastore add: the datastore is called %s in the bucket, and so it must be called here", at.Store)
	}
	out, err := (&Bucket{Location: at}).Complete(given, getenv)
	if err != nil {
		return err
	}
	if out.Plain {
		return usage.Errorf("datastore add: %s only has servers with TLS; without it, name s3://BUCKET/STORE and --endpoint each time", cfg.S3FileName)
	}
	d.Path, d.Backend, d.Client, d.Bucket = filepath.Join(bucketCaches, d.Name), "s3", d.Name, at.Bucket
	e := cfg.S3Endpoint{Host: out.Endpoint, Region: out.Region, PathStyle: out.PathStyle}
	if getenv("AWS_SESSION_TOKEN") == "" { // a key that goes with a token is soon of no use
		e.AccessKey, e.SecretKey = getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	}
	if !out.PathStyle {
		e.Host = "{{bucket}}." + e.Host
	}
	if !out.Fingerprint.IsZero() {
		e.Fingerprint = out.Fingerprint.String()
	}
	return maint.AddBucket(ctx, host, d, e)
}
