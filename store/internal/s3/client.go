package s3

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pbsfs/pbsfs/store/bucket"
)

const (
	// connectWait bounds how long a connection may take to come about.
	connectWait = 10 * time.Second
	// metadataWait bounds the question to the machine for its credentials: most machines
	// have none, and nobody answers.
	metadataWait = 2 * time.Second
	// firstPause and maxPause bound the pauses between two attempts.
	firstPause = 200 * time.Millisecond
	maxPause   = 5 * time.Second
)

// client makes requests.
type client struct {
	core      *minio.Core
	at        bucket.Location
	transport *http.Transport
	slots     chan struct{} // one for each request that may be under way
	patience  time.Duration
	reached   func(*Error)
}

func newClient(opts Options) (*client, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectWait}).DialContext,
		TLSHandshakeTimeout: connectWait,
		MaxIdleConns:        opts.Parallel, MaxIdleConnsPerHost: opts.Parallel,
		IdleConnTimeout:    time.Minute,
		DisableCompression: true, // a chunk is compressed already
		TLSClientConfig:    tlsConfig(opts.At),
	}
	lookup := minio.BucketLookupAuto
	if opts.At.PathStyle {
		lookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(opts.At.Endpoint, &minio.Options{
		Creds: credentialsOf(opts), Secure: !opts.At.Plain, Transport: strict{t}, Region: opts.At.Region,
		BucketLookup: lookup, MaxRetries: 1, // [client.try] repeats them
	})
	if err != nil {
		return nil, err
	}
	if opts.Reached == nil {
		opts.Reached = func(*Error) {}
	}
	return &client{
		core: core, at: opts.At, transport: t, slots: make(chan struct{}, opts.Parallel),
		patience: opts.Patience, reached: opts.Reached,
	}, nil
}

// credentialsOf returns the credentials, or where they are looked for.
func credentialsOf(opts Options) *credentials.Credentials {
	if !opts.Credentials.IsZero() {
		return credentials.NewStaticV4(opts.Credentials.AccessKey, opts.Credentials.SecretKey, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: metadataWait}},
	})
}

// tlsConfig accepts a certificate that is signed by an authority of this machine for the
// server's name or address, or that has the fingerprint.
func tlsConfig(at bucket.Location) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return &certificateError{cause: fmt.Errorf("the server shows no certificate")}
			}
			others := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				others.AddCert(c)
			}
			// The connection has no name if that is an address.
			who := cmp.Or(s.ServerName, at.Host())
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: who, Intermediates: others})
			shown := bucket.Fingerprint(sha256.Sum256(s.PeerCertificates[0].Raw))
			if err == nil || shown == at.Fingerprint {
				return nil
			}
			return &certificateError{shown: shown, want: at.Fingerprint, cause: err}
		},
	}
}

// certificateError refuses a server's certificate.
type certificateError struct {
	shown, want bucket.Fingerprint
	cause       error
}

func (e *certificateError) Error() string {
	if e.want.IsZero() {
		return fmt.Sprintf("its certificate is not trusted (%v); if it is the right server: --fingerprint %s", e.cause, e.shown)
	}
	return fmt.Sprintf("its certificate has the fingerprint %s, not %s (%v)", e.shown, e.want, e.cause)
}

func (e *certificateError) Unwrap() error { return e.cause }

// slot waits until a request may begin. The caller must call the function that it returns
// when the request has ended.
func (c *client) slot(ctx context.Context) (func(), error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// try makes a request, and makes it again as long as it fails in a way that may pass and
// ctx lasts. Of what is wrong the last answer tells most.
func (c *client) try(ctx context.Context, what string, request func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstPause, maxPause
	var last *Error
	for {
		err := request()
		if err == nil {
			c.reached(nil)
			return nil
		}
		err = c.explain(ctx, what, err)
		var own *Error
		switch {
		case !errors.As(err, &own):
			return err
		case own.Kind == Silent && last != nil:
			return last
		case !own.passes() || ctx.Err() != nil:
			return err
		}
		last = own
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done(): // the request ends at once, with the cause
		}
	}
}

// watch returns a context that ends when a request has made no progress for too long, and
// the function that tells of progress. The caller must call stop.
func (c *client) watch(ctx context.Context, patience time.Duration) (_ context.Context, progress, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() {
		cancel(&Error{Server: c.at.Server(), Kind: Silent, Err: fmt.Errorf("no answer for %s", patience)})
	})
	return ctx, func() { timer.Reset(patience) }, func() {
		timer.Stop()
		cancel(nil)
	}
}
