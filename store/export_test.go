package store

// WaitForLoads returns when no chunk is being loaded.
func WaitForLoads(l *Lookup) { l.ds.chunks.Wait() }
