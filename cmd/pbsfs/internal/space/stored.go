package space

import (
	"context"

	"github.com/pbsfs/pbsfs/store"
)

// stored looks at the files of all chunks.
func (m *measure) stored(ctx context.Context) error {
	m.res.Missing = int64(m.chunks.Len())
	return store.ChunkFiles(ctx, m.right, func(f store.ChunkFile) error {
		c := m.chunks.Get(f.Digest)
		if c == nil || f.Bad {
			return nil
		}
		size, ok, err := f.Size(ctx)
		if err != nil || !ok {
			return err
		}
		m.res.Missing--
		for _, s := range m.owners(c) {
			s.OnlyStored += size
		}
		return nil
	})
}
