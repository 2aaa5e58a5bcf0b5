package unmount

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// Options are the options of an unmount.
type Options struct {
	// Wait is how long to wait for processes in the way.
	Wait time.Duration
	// Force takes trees away while they are in use.
	Force bool
	// Serving says that the process does more than this unmount. A command closes the
	// descriptors that it has inherited on what it unmounts; those of a server are its own
	// operations, which count as anybody's.
	Serving bool
	// Stderr gets a message if the result for a tree is not what was asked for.
	Stderr io.Writer
	// Allow asks for time to clean up in case the command is interrupted. It returns a
	// function that ends that time.
	Allow func(time.Duration) (back func())
}

// Named unmounts what arg names: the tree on a mount point, or all trees of a
// datastore. For a removable datastore it unmounts the device as well.
func Named(ctx context.Context, host hosts.Host, arg string, o Options) error {
	known, err := served.Records(host)
	if err != nil {
		return err
	}
	trees, err := mountpoint.TreesAt(ctx, arg)
	if err != nil {
		return err
	}
	if len(trees) == 0 {
		t, err := served.Resolve(host, arg, known)
		if err != nil {
			return err
		}
		if t.Removable != nil && !locate.IsPath(arg) {
			return removable(ctx, host, t, o)
		}
		if trees, err = served.TreesOf(host, t, known); err != nil {
			return err
		}
	}
	if len(trees) == 0 {
		return fmt.Errorf("%s: not mounted", arg)
	}
	if err := o.letGo(trees); err != nil {
		return err
	}
	l := newLeaving(ctx, trees, known, o)
	if err := l.unmount(ctx); err != nil {
		return err
	}
	return locate.Sweep(host)
}

// letGo closes what this process has inherited on what is to be unmounted.
func (o Options) letGo(of []mounts.Mount) error {
	if o.Serving {
		return nil
	}
	return mounts.LetGo(of)
}
