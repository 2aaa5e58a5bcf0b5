package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store"
)

// bucketOptions say how a datastore in a bucket is read.
type bucketOptions struct {
	locate.Server
	parallel int
	refresh  time.Duration
	timeout  time.Duration

	copyDir, serverCache string
	copyBytes            byteSize
}

func (o *bucketOptions) register(f *pflag.FlagSet) {
	registerServer(f, &o.Server)
	f.IntVar(&o.parallel, "parallel", store.DefaultParallel, "for s3://: requests at a time")
	f.DurationVar(&o.refresh, "refresh", store.DefaultRefresh, "for s3://: how long names are remembered")
	f.DurationVar(&o.timeout, "timeout", store.DefaultPatience, "for s3://: how long the server may be silent, or refuse, until a read fails")
	f.StringVar(&o.copyDir, "disk-cache", "", "for s3://: a directory for copies of chunks, as they are in the bucket")
	o.copyBytes = store.DefaultCopyBytes
	f.Var(&o.copyBytes, "disk-cache-size", "for s3://: the size of all copies")
	f.StringVar(&o.serverCache, "pbs-cache", "", "for s3://: the local cache of a server of this machine, to look there first")
}

// registerServer registers the flags that say how a server is reached.
func registerServer(f *pflag.FlagSet, s *locate.Server) {
	f.StringVar(&s.Endpoint, "endpoint", "", "for s3://: the server, as URL or HOST:PORT; Amazon's without it (environment: AWS_ENDPOINT_URL)")
	f.StringVar(&s.Region, "region", "", "for s3://: the region (environment: AWS_REGION)")
	f.BoolVar(&s.PathStyle, "path-style", false, "for s3://: the bucket stands in the path of requests, not in the server's name")
	f.StringVar(&s.Fingerprint, "fingerprint", "", "for s3://: SHA-256 of the server's certificate, if no authority of this machine has signed it")
}

// maxParallel bounds --parallel: each request may take 8 MiB.
const maxParallel = 256

// of completes what is known of a bucket.
func (o *bucketOptions) of(b *locate.Bucket, getenv func(string) string) (*store.Bucket, error) {
	switch {
	case o.parallel < 1 || o.parallel > maxParallel:
		return nil, usage.Errorf("--parallel %d: must be from 1 to %d", o.parallel, maxParallel)
	case o.refresh <= 0:
		return nil, usage.Errorf("--refresh %s: must be more than nothing", o.refresh)
	case o.timeout <= 0:
		return nil, usage.Errorf("--timeout %s: must be more than nothing", o.timeout)
	}
	out, err := b.Complete(o.Server, getenv)
	if err != nil {
		return nil, err
	}
	out.Parallel, out.Refresh, out.Patience, out.CopyBytes = o.parallel, o.refresh, o.timeout, int64(o.copyBytes)
	if out.CopyDir, err = absolute(o.copyDir); err != nil {
		return nil, err
	}
	out.ServerCache, err = absolute(o.serverCache)
	return out, err
}

// absolute returns an absolute path; "" stays "".
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
