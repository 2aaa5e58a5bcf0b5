package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
)

// notThere adds to the error for a path that does not exist what is there instead.
func (d *opened) notThere(ctx context.Context, r *store.Reader, p string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m, ok := d.tree.Nearest(ctx, r, p)
	if !ok {
		return err
	}
	if len(m.Near) == 0 {
		return fmt.Errorf("%w: /%s is empty", err, m.Dir)
	}
	near := make([]string, len(m.Near))
	for i, n := range m.Near {
		near[i] = text.Printable(n)
	}
	list := strings.Join(near, ", ")
	if m.Other > 0 {
		list += fmt.Sprintf(" and %d more", m.Other)
	}
	return fmt.Errorf("%w: there is no %q in /%s, but %s", err, m.Name, m.Dir, list)
}
