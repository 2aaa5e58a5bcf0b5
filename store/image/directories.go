package image

import (
	"io"

	"github.com/pbsfs/pbsfs/store/internal/lru"
)

// Directories lists directories and finds names in them, for formats in which a directory
// has to be read as a whole. It remembers those that could be read without an error. It is
// safe for concurrent use.
type Directories struct {
	read  func(r io.ReaderAt, number uint64) (*Names, error)
	cache *lru.Cache[uint64, *Names]
}

// NewDirectories remembers about limit entries. read reads a directory: what could be read,
// or nil, comes with the error that says what could not.
func NewDirectories(limit int64, read func(r io.ReaderAt, number uint64) (*Names, error)) *Directories {
	return &Directories{read: read, cache: lru.New[uint64, *Names](limit)}
}

// Entries lists a directory, as [FileSystem] has it.
func (d *Directories) Entries(r io.ReaderAt, dir uint64) ([]Entry, error) {
	names, err := d.names(r, dir)
	return names.Entries(), err
}

// Lookup finds a name in a directory, as [FileSystem] has it. Unlike Windows, it tells
// upper from lower case.
func (d *Directories) Lookup(r io.ReaderAt, dir uint64, name string) (Entry, error) {
	names, err := d.names(r, dir)
	return names.Lookup(name, err)
}

func (d *Directories) names(r io.ReaderAt, number uint64) (*Names, error) {
	if names, ok := d.cache.Get(number); ok {
		return names, nil
	}
	names, err := d.read(r, number)
	if names == nil {
		names = &Names{}
	}
	if err == nil {
		d.cache.Put(number, names, int64(names.Len()+1))
	}
	return names, err
}
