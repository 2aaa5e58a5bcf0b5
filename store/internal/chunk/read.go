package chunk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// load reads and verifies one chunk.
func (s *Source) load(right Hold, w Want) (*Block, error) {
	chunks, err := right.Chunks()
	if err != nil {
		return nil, err
	}
	b, err := s.decode(chunks.ReadChunk, w)
	if c, ok := chunks.(Copying); ok && errors.Is(err, corrupt.Err) {
		return s.decode(c.ReadAnew, w)
	}
	return b, err
}

// reader reads a chunk as it is stored, as [Backend] does.
type reader func(ctx context.Context, d name.Digest, buf []byte) ([]byte, error)

// decode reads a chunk and verifies it.
func (s *Source) decode(from reader, w Want) (*Block, error) {
	raw := s.pool.get(min(w.Size, blob.MaxChunkSize) + encodedOverhead)
	defer s.pool.put(raw)
	encoded, err := s.read(from, w.Digest, raw)
	if err != nil {
		return nil, err
	}
	buf := s.pool.get(w.Size)
	data, err := blob.DecodeChunk(buf, encoded, w.Size, w.Digest, w.Mode, w.Key)
	if err != nil {
		s.pool.put(buf)
		return nil, &Error{Digest: w.Digest, Err: err}
	}
	if unsafe.SliceData(data) == unsafe.SliceData(buf[:cap(buf)]) {
		data = buf[:len(data)] // with all of its capacity
	} else {
		s.pool.put(buf)
	}
	return &Block{data: data, pool: &s.pool}, nil
}

// encodedOverhead is by how much an encoded chunk may be longer than its data.
const encodedOverhead = blob.MaxEncodedChunk - blob.MaxChunkSize

// read reads a chunk as it is stored, within the backend's timeout.
func (s *Source) read(from reader, d name.Digest, buf []byte) ([]byte, error) {
	ctx := s.loads
	if s.limits.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.limits.Timeout, fmt.Errorf("not read within %s", s.limits.Timeout))
		defer cancel()
	}
	encoded, err := from(ctx, d, buf)
	switch {
	case err == nil:
		return encoded, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return nil, &Error{Digest: d, Missing: errors.Is(err, fs.ErrNotExist), Err: err}
}
