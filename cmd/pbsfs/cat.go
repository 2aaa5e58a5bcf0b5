package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

const catHelp = `Write files of a datastore to the standard output, without mounting it.

PATH is what it would be below a mount point. Every byte is verified before it
is written; what is damaged is not written, and the exit code is 5.`

// catBuffer is how many bytes cat reads at once.
const catBuffer = 1 << 20

func newCatCommand(a *app) *cobra.Command {
	o := &openOptions{}
	cmd := &cobra.Command{
		Use:               "cat DATASTORE PATH...",
		Short:             "write files of a datastore to the standard output",
		Long:              catHelp,
		Args:              usageArgs(cobra.MinimumNArgs(2)),
		ValidArgsFunction: a.completePaths(o, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.read(cmd.Context(), args[0], *o, func(ctx context.Context, d *opened) error {
				for _, p := range args[1:] {
					if err := a.cat(ctx, d, p); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// cat writes the file at p to the standard output.
func (a *app) cat(ctx context.Context, d *opened, p string) error {
	return d.at(ctx, p, true, func(r *store.Reader, n *tree.Node) error {
		if err := a.copyOut(ctx, r, n); err != nil {
			return atPath(p, err)
		}
		return nil
	})
}

// copyOut writes a file to the standard output.
func (a *app) copyOut(ctx context.Context, r *store.Reader, n *tree.Node) error {
	switch n.Type() {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		if err := n.Broken(); err != nil {
			return err
		}
		return unix.EISDIR
	default:
		return errors.New("not a regular file")
	}
	f, err := n.Open(ctx, r)
	if err != nil {
		return err
	}
	buf := make([]byte, catBuffer)
	for off := int64(0); ; {
		m, err := f.ReadAt(ctx, r, buf, off)
		if _, werr := a.stdout.Write(buf[:m]); werr != nil {
			return fmt.Errorf("writing: %w", werr)
		}
		off += int64(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
