package chunk

import (
	"errors"
	"fmt"
	"io/fs"
	"unsafe"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/name"
)

// load reads and verifies one chunk.
func (s *Source) load(right Hold, w Want) (*Block, error) {
	root, err := right.Root()
	if err != nil {
		return nil, err
	}
	raw := s.pool.get(min(w.Size, blob.MaxChunkSize) + encodedOverhead)
	defer s.pool.put(raw)
	encoded, err := readChunk(root, w.Digest, raw)
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

// encodedOverhead is what an encoded chunk may be longer than its data.
const encodedOverhead = blob.MaxEncodedChunk - blob.MaxChunkSize

// readChunk reads the file of a chunk. A backup may be replacing it just now:
// a file that is not there is looked for once more.
func readChunk(root *disk.Root, d name.Digest, buf []byte) ([]byte, error) {
	path := ".chunks/" + d.Prefix() + "/" + d.String()
	raw, _, err := root.ReadFile(path, blob.MaxEncodedChunk, buf)
	if errors.Is(err, fs.ErrNotExist) {
		raw, _, err = root.ReadFile(path, blob.MaxEncodedChunk, buf)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Digest: d, Missing: true, Err: missing(root, path)}
	case disk.NoFile(err):
		return nil, &Error{Digest: d, Err: fmt.Errorf("%w: %w", corrupt.New("not a regular file"), err)}
	case err != nil:
		return nil, &Error{Digest: d, Err: err}
	case len(raw) == 0:
		return nil, &Error{Digest: d, Err: corrupt.New("file is empty (in the local cache of an S3 datastore the chunk is only in the bucket)")}
	}
	return raw, nil
}

// missing says what is known about a chunk that is not there.
func missing(root *disk.Root, path string) error {
	for i := range 10 {
		bad := fmt.Sprintf("%s.%d.bad", path, i)
		if _, err := root.Stat(bad); err == nil {
			return fmt.Errorf("marked corrupt by a verification (%s); a new backup of the same data would bring it back", bad)
		}
	}
	return errors.New("missing from the datastore")
}
