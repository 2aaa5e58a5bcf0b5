package store

// Share returns another reader of the same operation, for work that holds the locks of
// one snapshot after the other. The operation ends with the last of its readers; it is
// counted once, and a maintenance mode that was set meanwhile does not refuse it. The
// caller must Release the reader.
func (r *Reader) Share() (*Reader, error) {
	own, err := r.reading()
	if err != nil {
		return nil, err
	}
	shared, err := own.share()
	if err != nil {
		return nil, err
	}
	return &Reader{r: shared}, nil
}

// Forget forgets what is remembered of indexes, manifests and archives, so that it is
// read anew. Chunks that were decoded stay: nothing can be wrong with those.
func (l *Lookup) Forget() {
	if l.isZero() {
		return
	}
	m := &l.ds.memory
	m.indexes.Drop()
	m.snapshots.Drop()
	m.archives.Drop()
	m.tables.Drop()
	m.catalogs.Drop()
}
