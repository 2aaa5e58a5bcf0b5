package source

import (
	"errors"

	"github.com/pbsfs/pbsfs/store/catalog"
)

// listing is one archive's part of a catalog. Without an encoder nothing is listed.
// Entries that a catalog cannot hold are left out, a directory with everything in it;
// the archive has them all the same.
type listing struct {
	enc     *catalog.Encoder
	skipped int // open directories that are not listed
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
