package source

import (
	"errors"

	"github.com/pbsfs/pbsfs/store/catalog"
)

// listing is the part of a catalog that one archive has. Without an encoder it
// is none. What the catalog cannot have is left out, a directory with all that
// is in it: the archive has it all the same.
type listing struct {
	enc     *catalog.Encoder
	skipped int // directories that are open and not listed
}

func (l *listing) start(name string) error {
	if l.enc == nil {
		return nil
	}
	if l.skipped > 0 {
		l.skipped++
		return nil
	}
	err := l.enc.StartDir(name)
	if errors.Is(err, catalog.ErrEntry) {
		l.skipped++
	}
	return err
}

func (l *listing) end() error {
	if l.enc == nil {
		return nil
	}
	if l.skipped > 0 {
		l.skipped--
		return nil
	}
	return l.enc.EndDir()
}

func (l *listing) add(e catalog.Entry) error {
	if l.enc == nil || l.skipped > 0 {
		return nil
	}
	return l.enc.Add(e)
}
