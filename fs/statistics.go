package fs

// Statistics counts what a mount has answered, and has open.
type Statistics struct {
	// Reads are the reads of files that were answered with data, ReadBytes that data.
	Reads, ReadBytes uint64
	// Handles are the files and directories that are open.
	Handles int
	// Inodes are the objects that the kernel knows.
	Inodes int
}

// Statistics returns what was counted so far. It waits for no request.
func (m *Mount) Statistics() Statistics {
	f := m.fsys
	f.mu.Lock()
	handles := len(f.handles)
	f.mu.Unlock()
	return Statistics{Reads: f.reads.Load(), ReadBytes: f.bytes.Load(), Handles: handles, Inodes: f.objects.count()}
}
