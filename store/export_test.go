package store

import "github.com/pbsfs/pbsfs/store/internal/chunk"

// WaitForLoads returns when no chunk is being loaded.
func WaitForLoads(l *Lookup) { l.ds.chunks.Wait() }

// FaultOf says what is wrong with a chunk, given the error of the backend.
func FaultOf(err error) ChunkFault { return faultOf(&chunk.Error{Err: err}) }
