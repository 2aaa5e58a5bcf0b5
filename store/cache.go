package store

import (
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/internal/lru"
	"github.com/pbsfs/pbsfs/store/internal/metadata"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// The bounds of the caches, so that memory does not grow with the size of a datastore.
// Chunks have a cache of their own.
const (
	indexBytes    = 24 << 20
	tableBytes    = 8 << 20
	catalogBytes  = 8 << 20
	snapshotBytes = 20 << 20
	archiveCount  = 256

	// snapshotWeight is about what a snapshot takes at most whose manifest is not out of the
	// ordinary: a thousand are remembered.
	snapshotWeight = 16 << 10
)

// indexKey identifies an index by its content.
type indexKey struct {
	csum   [32]byte
	format name.Format
	size   int64
}

// tableKey identifies a directory of an archive by the archive's content.
type tableKey struct {
	archive [32]byte
	dir     pxar.Dir
}

// catalogKey identifies a directory of a catalog by the catalog's content.
type catalogKey struct {
	csum  [32]byte
	place catalog.Place
}

// archiveKey identifies an archive by everything in its snapshot's manifest. A snapshot
// can be removed and written again with the same time, and any part of an archive may
// then be different.
type archiveKey struct {
	snap          name.Snapshot
	meta, payload manifest.File // payload is zero unless the archive is split
}

// memory holds everything that a datastore caches besides chunks.
type memory struct {
	indexes   *lru.Cache[indexKey, *index.Index]
	tables    *lru.Cache[tableKey, *pxar.Table]
	catalogs  *lru.Cache[catalogKey, *catalog.Directory]
	snapshots *lru.Cache[name.Snapshot, *Snapshot]
	archives  *lru.Cache[archiveKey, *Archive]
	metadata  *metadata.Cache
	walks     *walks

	// indexing holds one token while an index is read.
	indexing chan struct{}
	// decoding holds one token while a blob is decoded.
	decoding chan struct{}
}

func newMemory(opts metadata.Options) memory {
	return memory{
		indexes:   lru.New[indexKey, *index.Index](indexBytes),
		tables:    lru.New[tableKey, *pxar.Table](tableBytes),
		catalogs:  lru.New[catalogKey, *catalog.Directory](catalogBytes),
		snapshots: lru.New[name.Snapshot, *Snapshot](snapshotBytes),
		archives:  lru.New[archiveKey, *Archive](archiveCount),
		metadata:  metadata.New(opts),
		walks:     new(walks),
		indexing:  make(chan struct{}, 1),
		decoding:  make(chan struct{}, 1),
	}
}
