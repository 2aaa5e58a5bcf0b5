package s3

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// maxBroken is how often the rest of an answer that broke off is asked for.
const maxBroken = 5

// infoOf describes an object. Its identity is made from what changes with its content: the
// etag is opaque, and some servers have none. Listings know fractions of seconds that
// answers do not.
func infoOf(o minio.ObjectInfo) backend.Info {
	at := o.LastModified.Truncate(time.Second)
	version := strings.Trim(o.ETag, `"`)
	if version == "" {
		version = at.UTC().String()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", version, o.Size))
	return backend.Info{
		Identity: backend.Identity{Ino: binary.LittleEndian.Uint64(sum[:]) | 1},
		Mode:     unix.S_IFREG | 0o644, Size: o.Size, Mtime: at,
	}
}

// get has read read an object of at most limit bytes.
func (c *client) get(ctx context.Context, key string, limit int64, read func(r io.Reader, size int64) error) (backend.Info, error) {
	done, err := c.slot(ctx)
	if err != nil {
		return backend.Info{}, err
	}
	defer done()
	ctx, progress, stop := c.watch(ctx, c.patience)
	defer stop()
	o := &object{c: c, ctx: ctx, key: key, progress: progress}
	defer o.close()
	if err := o.open(); err != nil {
		return backend.Info{}, err
	}
	info := infoOf(o.info)
	if o.info.Size > limit {
		return info, fmt.Errorf("%s/%s: %w: %w", c.at, key, backend.ErrTooLarge, corrupt.New("%d bytes, at most %d are allowed", o.info.Size, limit))
	}
	err = read(o, o.info.Size)
	if o.err != nil { // what the reader made of it does not matter
		err = o.err
	}
	return info, err
}

// object is the answer to a request for an object. It asks again if the answer breaks off.
type object struct {
	c        *client
	ctx      context.Context // of the request: a reader is given none
	key      string
	progress func()

	body   io.ReadCloser
	info   minio.ObjectInfo // of the first answer
	off    int64
	broken int
	err    error // why there is no rest
}

// open asks for the object from the present offset on.
func (o *object) open() error {
	opts := minio.GetObjectOptions{}
	if o.off > 0 {
		if err := errors.Join(opts.SetRange(o.off, 0), o.match(&opts)); err != nil {
			return err
		}
	}
	return o.c.try(o.ctx, o.key, func() error {
		body, info, _, err := o.c.core.GetObject(o.ctx, o.c.at.Bucket, o.key, opts)
		if err != nil {
			return err
		}
		o.progress()
		o.body = body
		if o.off == 0 {
			o.info = info
		}
		return nil
	})
}

// match makes sure that the rest is that of the same object.
func (o *object) match(opts *minio.GetObjectOptions) error {
	if o.info.ETag == "" {
		return nil
	}
	return opts.SetMatchETag(o.info.ETag)
}

// Read reads from the present offset. It returns [io.EOF] only at the object's end.
func (o *object) Read(p []byte) (int, error) {
	for {
		if o.err != nil {
			return 0, o.err
		}
		if o.off >= o.info.Size {
			return 0, io.EOF
		}
		n, err := o.body.Read(p[:min(int64(len(p)), o.info.Size-o.off)])
		if n > 0 {
			o.off += int64(n)
			o.progress()
			return n, nil
		}
		if err != nil {
			o.err = o.again(err)
		}
	}
}

// again asks for the rest after an answer has broken off.
func (o *object) again(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if o.broken++; o.broken > maxBroken || o.ctx.Err() != nil {
		return o.c.explain(o.ctx, o.key, err)
	}
	o.close()
	return o.open()
}

func (o *object) close() {
	if o.body != nil {
		_ = o.body.Close()
		o.body = nil
	}
}
