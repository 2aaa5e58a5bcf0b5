package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// registerSalvage adds the flag to a command that gives out contents.
func (o *openOptions) registerSalvage(f *pflag.FlagSet) {
	f.BoolVar(&o.salvage, "salvage", false, "give zeros for what is lost of a file or an image, and say where")
}

// zeros collects which files that were given out have zeros in the place of damaged data.
type zeros struct{ files int }

// add names a file on standard error, if it has zeros. p is its path as it was asked for.
func (z *zeros) add(a *app, p string, f tree.File) error {
	s, ok := f.(tree.Salvaged)
	if !ok {
		return nil
	}
	return z.name(a, p, s.Lost())
}

func (z *zeros) name(a *app, p string, ranges []store.Range) error {
	if len(ranges) == 0 {
		return nil
	}
	z.files++
	return a.warn(fmt.Sprintf("pbsfs: %s: zeros instead of damaged data: bytes %s\n", text.Path(p), tree.RangesText(ranges, maxRangesText)))
}

// maxRangesText bounds the ranges that are listed of one file.
const maxRangesText = 64 << 10

// err says at the end of a command that there were such files.
func (z *zeros) err() error {
	switch {
	case z == nil || z.files == 0:
		return nil
	case z.files == 1:
		return fmt.Errorf("%w: 1 file has zeros where data is lost; it is named above", store.ErrCorrupt)
	}
	return fmt.Errorf("%w: %d files have zeros where data is lost; they are named above", store.ErrCorrupt, z.files)
}
