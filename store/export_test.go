package store

import "github.com/pbsfs/pbsfs/store/internal/chunk"

// WaitForLoads returns when no chunk is being loaded.
func WaitForLoads(l *Lookup) { l.ds.chunks.Wait() }

// FaultOf says what is wrong with a chunk, given the error of the backend.
func FaultOf(err error) ChunkFault { return faultOf(&chunk.Error{Err: err}) }

// IsLost reports whether a chunk is read past, given the error of the backend.
func IsLost(err error, missing bool) bool { return isLost(&chunk.Error{Err: err, Missing: missing}) }

// ErrClosed ends the loads of a datastore that is closed.
var ErrClosed = chunk.ErrClosed
