package integration

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/time/rate"
)

// imageInBucket serves a datastore with one image that does not compress, and returns its
// chunks.
func imageInBucket(b *testing.B, dir string, size int64) (*objectStore, []string) {
	b.Helper()
	image := filepath.Join(dir, "disk.img")
	f, err := os.Create(image)
	check(b, err)
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	check(b, errors.Join(err, f.Close()))
	store := filepath.Join(dir, "store")
	execute(b, benchHost(dir).command("snapshot", "create", "disk.img:"+image, store, "--init", "--id", "100", "--type", "vm"))

	s := &objectStore{t: b, dir: filepath.Join(dir, "buckets"), addr: freeAddress(b)}
	top := filepath.Join(s.dir, "bench-bucket", "bench")
	check(b, os.MkdirAll(filepath.Join(top, ".cnt"), 0o755))
	execute(b, exec.Command("cp", "-al", store, filepath.Join(dir, "local")))
	check(b, os.Rename(filepath.Join(store, "vm"), filepath.Join(top, ".cnt", "vm")))
	var keys []string
	check(b, filepath.WalkDir(filepath.Join(store, ".chunks"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			keys = append(keys, "bench"+strings.TrimPrefix(path, store))
		}
		return err
	}))
	check(b, os.Rename(filepath.Join(store, ".chunks"), filepath.Join(top, ".chunks")))
	s.start()
	b.Cleanup(s.stop)
	return s, keys
}

// fetchAll reads objects with the library alone, as many at a time as pbsfs does.
func fetchAll(b *testing.B, at line, keys []string, parallel int) int64 {
	b.Helper()
	core, err := minio.NewCore(at.host, &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", Secure: at.client != nil, Transport: at.client,
	})
	check(b, err)
	var bytes atomic.Int64
	next := make(chan string)
	var done sync.WaitGroup
	for range parallel {
		done.Go(func() {
			buf := make([]byte, 8<<20)
			for key := range next {
				r, _, _, err := core.GetObject(b.Context(), "bench-bucket", key, minio.GetObjectOptions{})
				if err != nil {
					b.Error(err)
					continue
				}
				for err == nil {
					var n int
					n, err = r.Read(buf)
					bytes.Add(int64(n))
				}
				if !errors.Is(err, io.EOF) {
					b.Error(err)
				}
				_ = r.Close()
			}
		})
	}
	for _, key := range keys {
		next <- key
	}
	close(next)
	done.Wait()
	return bytes.Load() >> 20
}

// farLine is what the far line carries, in bytes a second.
const farLine = 128 << 20

// line is the way to a server.
type line struct {
	host   string
	flags  []string
	client http.RoundTripper // nil: without TLS
}

// BenchmarkBucketImage reads an image out of a mounted bucket, fetches the same chunks with
// the library alone, as many at a time, and reads the same image out of a directory, which
// is what decoding allows. Of each, x- is the bucket's time in proportion. On the line "far"
// each request takes 50 ms more, and it carries no more than farLine.
//
// Server, proxy and reader share the processors, so without that limit they would be what
// is measured.
func BenchmarkBucketImage(b *testing.B) {
	const size, parallel = 1 << 30, 16
	needDropCaches(b)
	dir := scratch(b)
	s, keys := imageInBucket(b, dir, size)
	far := startBetween(b, s)
	far.delay.Store(int64(50 * time.Millisecond))
	far.line.Store(rate.NewLimiter(farLine, 1<<20))
	lines := map[string]line{
		"near": {s.addr, s.flags(), nil},
		"far":  {strings.TrimPrefix(far.URL, "https://"), far.flags(), &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: parallel}},
	}
	for name, at := range lines {
		b.Run(name, func(b *testing.B) {
			alternate(b, []subject{{name: "bucket"}, {name: "library"}, {name: "directory"}}, "MiB/s", func(which subject) (time.Duration, int64) {
				if which.name == "library" {
					return timed(b, func(string) (int64, error) { return fetchAll(b, at, keys, parallel), nil }, at.host)
				}
				m := mountBucket(b, dir, at)
				if which.name == "directory" {
					m.end()
					m = mountFor(b, dir, filepath.Join(dir, "local"))
				}
				defer m.end()
				dropCaches(b)
				return timed(b, func(path string) (int64, error) {
					_, err := output(exec.Command("dd", "if="+path, "of=/dev/null", "bs=1M", "status=none"))
					return size >> 20, err
				}, filepath.Join(m.path, "vm/100/latest/disk.img"))
			})
		})
	}
}

func mountBucket(b *testing.B, dir string, at line) *served {
	b.Helper()
	mnt := filepath.Join(dir, "mnt")
	check(b, os.MkdirAll(mnt, 0o755))
	h := benchHost(dir)
	h.vars = append(h.vars, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey)
	begin := time.Now()
	execute(b, h.command(joined([]string{"mount", "s3://bench-bucket/bench", mnt, "--log", filepath.Join(dir, "log")}, at.flags)...))
	return newServed(b, mnt, time.Since(begin), func() error { return tryExecute(h.command("unmount", mnt)) })
}
