package verify

import (
	"sync/atomic"
	"time"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// Reporter is told what is found, while it is found. An error that it returns ends the
// run.
type Reporter interface {
	// Damage comes before the costs of it.
	Damage(d Damage) error
	Cost(c Cost) error
	Told(t Told) error
}

// Damage is something that is not what it must be.
type Damage struct {
	// Chunk is the damaged chunk, if OfChunk is set. Otherwise it is File of Snapshot.
	Chunk    name.Digest
	OfChunk  bool
	Snapshot name.Snapshot
	File     name.File
	Problem  Problem
	Err      error
}

// Problem is the kind of damage.
type Problem string

// The problems. The JSON form has them, so their texts never change.
const (
	Missing    Problem = "missing"
	Marked     Problem = "marked-bad"
	Damaged    Problem = "damaged"
	Unreadable Problem = "unreadable"
)

// problemOf names the fault of a chunk.
func problemOf(f store.ChunkFault) Problem {
	switch f {
	case store.ChunkMissing:
		return Missing
	case store.ChunkMarked:
		return Marked
	case store.ChunkUnreadable:
		return Unreadable
	case store.ChunkDamaged:
	}
	return Damaged
}

// Kind says what of a file or directory is lost.
type Kind string

// The kinds. The JSON form has them, so their texts never change.
const (
	Ranges  Kind = "ranges"  // parts of a file cannot be read
	File    Kind = "file"    // a file cannot be opened
	Below   Kind = "below"   // something, with everything below it if it is a directory, cannot be reached
	Listing Kind = "listing" // a directory has entries that are not known
	Sealed  Kind = "sealed"  // ranges of an archive whose key is not known, so that its files are not
)

// Cost is what damage costs in one place.
type Cost struct {
	Snapshot name.Snapshot
	Path     string // below the top of the tree
	Kind     Kind
	Ranges   []Range // of Ranges and Sealed
	// Chunk is the chunk whose damage this is, if OfChunk is set.
	Chunk   name.Digest
	OfChunk bool
	Err     error // nil for Ranges and Sealed
}

// Range are the bytes [Off, End) of a file.
type Range struct{ Off, End int64 }

// Told is something that is no damage, and that a reader of the result should know.
type Told struct {
	Snapshot name.Snapshot
	Note     Note
	File     string // that an Unlisted or Unchecked is about; may be ""
	Err      error  // may be nil
}

// Note is the kind of what is told.
type Note string

// The notes. The JSON form has them, so their texts never change.
const (
	Gone       Note = "gone"       // the snapshot was removed or replaced meanwhile
	Busy       Note = "busy"       // the snapshot is being changed, and was not checked
	Verified   Note = "verified"   // the server has verified the snapshot, and it was left out
	Unlisted   Note = "unlisted"   // a file that the manifest does not list
	Unfinished Note = "unfinished" // a snapshot without manifest
	Unchecked  Note = "unchecked"  // a file that could not be checked, for a reason that is no damage
)

// Counts say how far a run has come. The fields may be read at any time.
type Counts struct {
	Total, Snapshots        atomic.Int64 // to be checked, and checked or left out
	Manifests, Indexes      atomic.Int64
	Blobs, Chunks           atomic.Int64
	Bytes                   atomic.Int64 // that were read
	SealedBlobs             atomic.Int64 // checked in part, because the key is not known
	SealedChunks            atomic.Int64
	Unsampled               atomic.Int64 // chunks that were left out
	DamagedChunks           atomic.Int64
	DamagedFiles            atomic.Int64 // manifests, indexes, blobs, logs
	HitFiles, HitDirs       atomic.Int64 // files and directories that damage costs
	Gone, Busy, Verified    atomic.Int64 // snapshots
	Unlisted, Unfinished    atomic.Int64
	Unchecked               atomic.Int64 // files and chunks that could not be checked
	Unreferenced, BadUnused atomic.Int64 // chunk files that nothing refers to; those called .bad
	UnreferencedBytes       atomic.Int64 // of both
	Took                    atomic.Int64 // nanoseconds; set at the end
}

// Rate returns the bytes read in a second.
func (c *Counts) Rate(d time.Duration) int64 {
	return int64(float64(c.Bytes.Load()) / max(d.Seconds(), 1e-3))
}
