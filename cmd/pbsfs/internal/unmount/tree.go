package unmount

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// tree is a mount that is to be taken away.
type tree struct{ *served.Tree }

// inTheWay returns what keeps the mount from being taken away, or would keep the tree
// in use after that.
func (t tree) inTheWay(ctx context.Context) ([]mounts.Holder, error) {
	ctx = context.WithoutCancel(ctx)
	copies, err := t.copies(ctx)
	if err != nil || len(copies) > 0 {
		return copies, err
	}
	refused := t.unused()
	var hidden *mounts.HiddenError
	switch {
	case errors.As(refused, &hidden):
		return []mounts.Holder{{Name: hidden.By.FSType, Path: hidden.By.Point, How: "mounted above it"}}, nil
	case refused != nil && !errors.Is(refused, unix.EBUSY):
		return nil, refused
	case refused == nil && os.Geteuid() == 0 && !t.covered():
		return nil, nil
	}
	holders, err := mounts.HoldersOf(ctx, t.Mount)
	if err == nil && len(holders) == 0 && refused != nil && errors.Is(t.unused(), unix.EBUSY) {
		holders = []mounts.Holder{{Name: "somebody who cannot be seen from here", How: "in use", Path: t.Point}}
	}
	return holders, err
}

// unused asks the kernel, if it can be asked, whether the mount could be taken away.
func (t tree) unused() error {
	if os.Geteuid() != 0 {
		return nil
	}
	err := mounts.Unused(t.Mount)
	if errors.Is(err, mounts.ErrNotMounted) {
		return nil // another command has taken it away meanwhile
	}
	return err
}

// copies returns what would go on using the tree after the last mount of it here is
// gone.
func (t tree) copies(ctx context.Context) ([]mounts.Holder, error) {
	if t.Elsewhere || os.Geteuid() != 0 {
		return nil, nil
	}
	return mounts.CopiesOf(ctx, t.Mount)
}

// covered reports whether something lies upon the tree.
func (t tree) covered() bool {
	table, err := mounts.Mounts()
	if err != nil {
		return false
	}
	now, ok := table.Find(t.Mount)
	return ok && len(table.Upon(now)) > 0
}

// inside returns the mounts inside the tree.
func (t tree) inside() []mounts.Mount {
	table, err := mounts.Mounts()
	if err != nil {
		return nil
	}
	now, ok := table.Find(t.Mount)
	if !ok {
		return nil
	}
	return table.Inside(now)
}

// take takes the mount away.
func (t tree) take(ctx context.Context, lazily bool) error {
	err := fs.Unmount(ctx, t.Mount, lazily)
	if errors.Is(err, mounts.ErrNotMounted) {
		return nil // another command has taken it away meanwhile
	}
	return err
}
