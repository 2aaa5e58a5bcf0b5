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
is written; what is damaged is not written, and the exit code is 5.

With --salvage, what is lost of a file of an archive, or of a disk image, is
written as zeros, and the rest as it is. Each such file is named on the standard
error, with the first and the last byte of each range, and the exit code is 5.
Metadata of archives is never made up: what cannot be reached stays an error.`

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
				var z zeros
				for _, p := range args[1:] {
					if err := a.cat(ctx, d, p, &z); err != nil {
						return err
					}
				}
				return z.err()
			})
		},
	}
	o.register(cmd.Flags())
	o.registerSalvage(cmd.Flags())
	return cmd
}

// cat writes the file at p to the standard output.
func (a *app) cat(ctx context.Context, d *opened, p string, z *zeros) error {
	return d.at(ctx, p, true, func(r *store.Reader, n *tree.Node) error {
		f, err := a.copyOut(ctx, r, n)
		if err != nil {
			err = atPath(p, err)
		}
		return errors.Join(z.add(a, p, f), err)
	})
}

// copyOut writes a file to the standard output, and returns what it has read.
func (a *app) copyOut(ctx context.Context, r *store.Reader, n *tree.Node) (tree.File, error) {
	switch n.Type() {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		if err := n.Broken(); err != nil {
			return nil, err
		}
		return nil, unix.EISDIR
	default:
		return nil, errors.New("not a regular file")
	}
	f, err := n.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, catBuffer)
	for off := int64(0); ; {
		m, err := f.ReadAt(ctx, r, buf, off)
		if _, werr := a.stdout.Write(buf[:m]); werr != nil {
			return f, fmt.Errorf("writing: %w", werr)
		}
		off += int64(m)
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return f, err
		}
	}
}
