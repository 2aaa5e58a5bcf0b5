package chunk

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/name"
)

// Sink stores chunks in a datastore. It does not write a chunk that exists already, but
// uses it. A Sink is safe for concurrent use and keeps nothing open.
type Sink struct {
	disk *disk.Writable
	enc  blob.Encoder
	warn func(error)

	count, size, stored, known atomic.Uint64
}

// NewSink returns a sink for chunks that enc encodes. warn gets the faults of existing
// chunks, which the sink replaces.
func NewSink(w *disk.Writable, enc blob.Encoder, warn func(error)) *Sink {
	return &Sink{disk: w, enc: enc, warn: warn}
}

// Counts is what went through a sink.
type Counts struct {
	Chunks uint64
	Bytes  uint64 // of data
	Stored uint64 // bytes of chunk files, those that were there included
	Known  uint64 // chunks that were there
}

// Counts returns what went through so far.
func (s *Sink) Counts() Counts {
	return Counts{Chunks: s.count.Load(), Bytes: s.size.Load(), Stored: s.stored.Load(), Known: s.known.Load()}
}

// Put stores a chunk of 1 byte to [blob.MaxChunkSize] and returns its name.
// scratch is used for its encoded form where its capacity is enough, and
// returned, perhaps grown.
func (s *Sink) Put(plain, scratch []byte) (name.Digest, []byte, error) {
	d := s.enc.Digest(plain)
	broken, err := s.use(d, len(plain))
	if err == nil {
		return d, scratch, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !broken {
		return d, scratch, &Error{Digest: d, Err: err}
	}
	if broken {
		s.warn(&Error{Digest: d, Err: fmt.Errorf("%w; written anew", err)})
	}
	scratch, err = s.enc.EncodeChunk(scratch, plain)
	if err != nil {
		return d, scratch, err
	}
	err = s.disk.WriteChunk(d.Prefix(), d.String(), scratch, broken)
	if errors.Is(err, fs.ErrExist) { // another writer has stored it meanwhile
		if _, err = s.use(d, len(plain)); err == nil {
			return d, scratch, nil
		}
	}
	if err != nil {
		return d, scratch, &Error{Digest: d, Err: err}
	}
	s.add(len(plain), len(scratch))
	return d, scratch, nil
}

// use takes the chunk that is there, if it can be one: it is touched first, so
// that no garbage collection that has not seen our snapshot removes it.
func (s *Sink) use(d name.Digest, plain int) (broken bool, err error) {
	info, err := s.disk.TouchChunk(d.Prefix(), d.String())
	if err != nil {
		return false, err
	}
	if !info.IsRegular() {
		return false, errors.New("not a regular file")
	}
	if !s.enc.CouldHold(info.Size, plain) {
		return true, fmt.Errorf("a file of %d bytes cannot hold it", info.Size)
	}
	s.add(plain, int(info.Size))
	s.known.Add(1)
	return false, nil
}

func (s *Sink) add(plain, stored int) {
	s.count.Add(1)
	s.size.Add(uint64(plain))
	s.stored.Add(uint64(stored))
}
