package chunk

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/internal/disk"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Error is a chunk that cannot be served. It never matches [fs.ErrNotExist]:
// a missing chunk does not mean that the user's file does not exist.
type Error struct {
	Digest name.Digest
	// Missing is set when there is no file of that name.
	Missing bool
	// Err says what is wrong.
	Err error
}

// Error names the chunk and what is wrong with it.
func (e *Error) Error() string { return fmt.Sprintf("chunk %s: %v", e.Digest, e.Err) }

// Unwrap returns the cause, unless that is only that there is no such file.
func (e *Error) Unwrap() error {
	if e.Missing {
		return corrupt.Err
	}
	return e.Err
}

// Want names a chunk and everything it is verified against.
type Want struct {
	Digest name.Digest
	Size   int // length of the decoded data
	Mode   blob.Mode
	Key    *keys.Key // nil unless Mode is MustEncrypted
}

// id is what a cached block is found by: everything that it was verified
// against. Of two indexes that name one digest with different lengths only one
// can be right, and whoever has it must not hear of the other.
type id struct {
	digest name.Digest
	size   int
	mode   blob.Mode
	key    keys.Fingerprint // zero unless there is a key
}

func (w Want) id() id {
	k := id{digest: w.Digest, size: w.Size, mode: w.Mode}
	if w.Key != nil {
		k.key = w.Key.Fingerprint()
	}
	return k
}

// Hold is a right to read that was taken for one loader.
type Hold interface {
	// Root returns the open datastore, valid until Release.
	Root() (*disk.Root, error)
	// Release gives the right back.
	Release()
}

// Source reads, verifies and caches chunks. It is safe for concurrent use.
type Source struct {
	limit int64
	pool  pool

	// mu guards the fields below. It is a leaf lock.
	mu      sync.Mutex
	blocks  map[id]*list.Element // of *cached
	lru     list.List            // front: used last
	size    int64
	loading map[id]*load
}

type cached struct {
	id    id
	block *Block
}

// load is a chunk on its way. block and err are set before done is closed.
type load struct {
	done    chan struct{}
	waiters int // guarded by Source.mu; those who will take a reference
	block   *Block
	err     error
}

// NewSource returns a source whose cache holds at most limit bytes of decoded
// data.
func NewSource(limit int64) *Source {
	return &Source{
		limit:   limit,
		pool:    pool{max: 4},
		blocks:  make(map[id]*list.Element),
		loading: make(map[id]*load),
	}
}

// Get returns the chunk. hold is called, before Get returns, when the chunk
// must be loaded; the loader releases what it gives. The caller must Release
// the block.
func (s *Source) Get(ctx context.Context, w Want, hold func() (Hold, error)) (*Block, error) {
	key := w.id()
	s.mu.Lock()
	if e, ok := s.blocks[key]; ok {
		s.lru.MoveToFront(e)
		b := e.Value.(*cached).block.retain()
		s.mu.Unlock()
		return b, nil
	}
	l, running := s.loading[key]
	if !running {
		l = &load{done: make(chan struct{})}
		s.loading[key] = l
	}
	l.waiters++
	s.mu.Unlock()
	if !running {
		s.start(key, l, w, hold)
	}
	select {
	case <-l.done:
		return l.block, l.err
	case <-ctx.Done():
		s.leave(l)
		return nil, context.Cause(ctx)
	}
}

// Ahead begins to load a chunk that will be wanted soon, for nobody yet. It does
// nothing when the chunk is there or on its way, when enough others are, or when
// the cache is too small to keep it until somebody asks. What goes wrong is said
// to who asks for the chunk.
func (s *Source) Ahead(w Want, hold func() (Hold, error)) {
	key := w.id()
	s.mu.Lock()
	_, there := s.blocks[key]
	_, running := s.loading[key]
	if there || running || len(s.loading) > runtime.GOMAXPROCS(0) || int64(w.Size) > s.limit/aheadShare {
		s.mu.Unlock()
		return
	}
	l := &load{done: make(chan struct{})}
	s.loading[key] = l
	s.mu.Unlock()
	s.start(key, l, w, hold)
}

// aheadShare is how many chunks of a size the cache must be able to hold before
// one is loaded ahead.
const aheadShare = 4

// start runs the loader of a chunk.
func (s *Source) start(key id, l *load, w Want, hold func() (Hold, error)) {
	right, err := hold()
	if err != nil {
		s.finish(key, l, nil, err)
		return
	}
	go func() {
		b, err := s.load(right, w)
		// Before anybody has an answer, and may close the datastore.
		right.Release()
		s.finish(key, l, b, err)
	}()
}

// leave takes a waiter off a load, giving back the reference that finish may
// have made for it.
func (s *Source) leave(l *load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-l.done:
		if l.block != nil {
			l.block.Release()
		}
	default:
		l.waiters--
	}
}

// finish ends a load: the block enters the cache, and each waiter gets a
// reference of its own.
func (s *Source) finish(key id, l *load, b *Block, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loading, key)
	l.err = err
	if err == nil {
		l.block = b
		b.refs.Store(int64(l.waiters))
		s.insert(key, b)
		if l.waiters == 0 { // and too large to be kept: nobody wants it
			b.retain().Release()
		}
	}
	close(l.done)
}

// insert adds b to the cache, with s.mu held, and makes room for it.
func (s *Source) insert(key id, b *Block) {
	n := int64(cap(b.data))
	if n > s.limit {
		return
	}
	s.blocks[key] = s.lru.PushFront(&cached{id: key, block: b.retain()})
	s.size += n
	for s.size > s.limit {
		s.evict(s.lru.Back())
	}
}

func (s *Source) evict(e *list.Element) {
	c := s.lru.Remove(e).(*cached)
	delete(s.blocks, c.id)
	s.size -= int64(cap(c.block.data))
	c.block.Release()
}

// Wait returns when the loads that were under way have ended, of which some may
// be for nobody any more.
func (s *Source) Wait() {
	s.mu.Lock()
	running := slices.Collect(maps.Values(s.loading))
	s.mu.Unlock()
	for _, l := range running {
		<-l.done
	}
}

// Drop empties the cache. Blocks that are in use stay valid.
func (s *Source) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.lru.Len() > 0 {
		s.evict(s.lru.Back())
	}
	s.pool.drop()
}

// load reads and verifies one chunk.
func (s *Source) load(right Hold, w Want) (*Block, error) {
	root, err := right.Root()
	if err != nil {
		return nil, err
	}
	raw := s.pool.get(min(w.Size, blob.MaxChunkSize) + encodedOverhead)
	defer func() { s.pool.put(raw) }()
	encoded, err := readChunk(root, w.Digest, raw[:0])
	if err != nil {
		return nil, err
	}
	raw = encoded
	data, err := blob.DecodeChunk(s.pool.get(w.Size), encoded, w.Size, w.Digest, w.Mode, w.Key)
	if err != nil {
		return nil, &Error{Digest: w.Digest, Err: err}
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
