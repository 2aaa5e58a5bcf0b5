package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

type lsOptions struct {
	openOptions
	long bool
}

const lsHelp = `List what lies at PATH in a datastore, without mounting it.

PATH is what it would be below a mount point, such as
ns/prod/host/NAME/latest/root.pxar/etc; without it, the top is listed. Names
are printed one in a line, as they are; on a terminal, bytes that are no text
are escaped. A listing that is not complete ends with an error (exit 5).`

func newLsCommand(a *app) *cobra.Command {
	o := &lsOptions{}
	cmd := &cobra.Command{
		Use:               "ls DATASTORE [PATH]",
		Short:             "list a directory of a datastore",
		Long:              lsHelp,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completePaths(&o.openOptions, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := optionalPath(args)
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.list(ctx, d, p, o.long)
			})
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().BoolVarP(&o.long, "long", "l", false, "show type, permissions, links, owner, size and time as well")
	return cmd
}

// optionalPath returns the PATH after DATASTORE, "" for the top.
func optionalPath(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return ""
}

// opened is a datastore that a command reads without mounting it.
type opened struct {
	ref  *store.Lookup
	tree *tree.Tree
}

// read opens a datastore for one command and calls fn with it.
func (a *app) read(ctx context.Context, datastore string, o openOptions, fn func(context.Context, *opened) error) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := a.keyring().Open(ctx, o.Options)
	if err != nil {
		return err
	}
	if err := a.confineReader(ctx, o); err != nil {
		return err
	}
	ref, err := a.open(ctx, datastore, o, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ref.Close()) }()
	if err := a.warn(unfitKeys(ctx, ref, s, log)); err != nil {
		return err
	}
	return fn(ctx, &opened{ref, tree.New(ref)})
}

// at finds the file at p, and calls fn with it and with the right to read it. Its
// snapshot is locked meanwhile, as for an open file of a mount.
func (d *opened) at(ctx context.Context, p string, follow bool, fn func(*store.Reader, *tree.Node) error) error {
	var n *tree.Node
	err := d.ref.View(ctx, func(r *store.Reader) (err error) {
		n, err = d.tree.Walk(ctx, r, p, follow)
		if err != nil {
			err = d.notThere(ctx, r, p, atPath(p, err))
		}
		return err
	})
	if err != nil {
		return err
	}
	r, err := tree.Hold(ctx, d.ref, n)
	if err != nil {
		return atPath(p, err)
	}
	defer r.Release()
	return fn(r, n)
}

// list prints the file or directory at p.
func (a *app) list(ctx context.Context, d *opened, p string, long bool) error {
	// As in ls(1), a link is followed unless the listing is long.
	return d.at(ctx, p, !long, func(r *store.Reader, n *tree.Node) error {
		return a.printNode(ctx, r, n, p, long)
	})
}

// printNode prints the entries of a directory, or the line of a file.
func (a *app) printNode(ctx context.Context, r *store.Reader, n *tree.Node, p string, long bool) (err error) {
	out := bufio.NewWriter(a.stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	show := printer{out: out, long: long, escape: isTerminal(a.stdout)}
	if !n.IsDir() {
		return show.print(path.Base(p), n)
	}
	var damage error
	err = tree.Visit(ctx, r, n, func(e tree.Entry) error {
		child := e.Node
		if child == nil && long && e.Err == nil {
			if child, err = n.Lookup(ctx, r, e.Name); err != nil && damage == nil {
				damage = fmt.Errorf("%w: %w", tree.ErrIncomplete, err)
			}
		}
		return show.print(e.Name, child)
	})
	if err == nil {
		err = damage
	}
	if err != nil {
		return atPath(p, err)
	}
	return nil
}

// atPath adds to an error the path that the command was given.
func atPath(p string, err error) error {
	var own *store.Error
	var onDisk *fs.PathError
	if errors.Is(err, fs.ErrNotExist) && errors.As(err, &onDisk) && !errors.As(err, &own) {
		err = unix.ENOENT // the error names a path on disk, not the path that was asked for
	}
	return fmt.Errorf("/%s: %w", strings.Trim(p, "/"), err)
}

// printer prints the lines of a listing.
type printer struct {
	out    *bufio.Writer
	long   bool
	escape bool
}

// print prints a line. n is nil for an entry that could not be looked at.
func (p printer) print(name string, n *tree.Node) error {
	if p.long {
		if _, err := fmt.Fprintf(p.out, "%s ", longLine(n)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(p.out, p.text(name))
	if err == nil && p.long && n != nil && n.Type() == unix.S_IFLNK {
		_, err = fmt.Fprintf(p.out, " -> %s", p.text(n.Target()))
	}
	if err == nil {
		err = p.out.WriteByte('\n')
	}
	return err
}

// text returns a name as it is, or, for a terminal, in printable form.
func (p printer) text(name string) string {
	if !p.escape {
		return name
	}
	q := strconv.Quote(name)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// longLine describes a node as ls -l does.
func longLine(n *tree.Node) string {
	if n == nil {
		return "?????????? ? ? ? ? ?"
	}
	attr := n.Attr()
	size := strconv.FormatInt(attr.Size, 10)
	if t := n.Type(); t == unix.S_IFCHR || t == unix.S_IFBLK {
		size = fmt.Sprintf("%d,%d", attr.Rdev>>8&0xfff, attr.Rdev&0xff|attr.Rdev>>12&^0xff)
	}
	when := time.Unix(attr.Mtime.Sec, int64(attr.Mtime.Nsec)).UTC().Format("2006-01-02T15:04:05Z")
	return fmt.Sprintf("%s %3d %5d %5d %12s %s", modeString(attr.Mode), attr.Nlink, attr.UID, attr.GID, size, when)
}

// modeString writes type and permissions as ls -l does.
func modeString(mode uint32) string {
	types := map[uint32]byte{
		unix.S_IFREG: '-', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p',
		unix.S_IFSOCK: 's', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b',
	}
	out := []byte("?rwxrwxrwx")
	if c, ok := types[mode&unix.S_IFMT]; ok {
		out[0] = c
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			out[1+i] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		char byte
	}{{unix.S_ISUID, 3, 's'}, {unix.S_ISGID, 6, 's'}, {unix.S_ISVTX, 9, 't'}} {
		if mode&special.bit != 0 {
			c := special.char
			if out[special.at] == '-' {
				c -= 'a' - 'A'
			}
			out[special.at] = c
		}
	}
	return string(out)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
