package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/find"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const findHelp = `Search snapshots for files by name, type, size, time and owner, without mounting
them and without reading contents.

PATH limits the search: to a namespace, a backup group, a snapshot, or a directory
in one. The same file in many snapshots of a group, that is one with the same path,
type, size and time, is one line:
  PATH  COUNT snapshots, FIRST to LAST
PATH is that in the newest of them, as cat and ls take it. With --all there is one
line for each snapshot, and with --print0 only paths, each ended by a NUL byte.
Groups are searched one after the other; within one, a directory comes before what
it holds, and names in their order.

All options must be true of a file. GLOB has *, ?, [...] and {A,B}; --path and
--regex are about the whole path below the archive, such as etc/hosts, in which **
stands for any number of directories. --size, --newer and --older find regular
files only. Archives have the numbers of owners and groups and not their names.
With --owner or --perm the metadata of the archives is read, and permissions and
owners count when files are compared; otherwise catalogs are enough.

Disk images and other files beside the archives are found by their names. What lies
on disks (*.img.d) is not searched.`

// findOptions are the flags of find.
type findOptions struct {
	openOptions
	asJSON, print0, all bool

	names, inames, paths []string
	regex, types         string
	sizes                []string
	newer, older         instant
	owner, perm          string
	span                 timeSpan
}

func newFindCommand(a *app) *cobra.Command {
	o := &findOptions{}
	cmd := &cobra.Command{
		Use:               "find DATASTORE [PATH]",
		Short:             "search all snapshots for files",
		Long:              findHelp,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completePaths(&o.openOptions, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := optionalPath(args)
			filter, err := o.filter()
			if err != nil {
				return err
			}
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.find(ctx, d, p, filter, o)
			})
		},
	}
	f := cmd.Flags()
	o.register(f)
	o.cacheSize = searchCache
	f.Lookup("cache-size").DefValue = o.cacheSize.String()
	f.StringArrayVar(&o.names, "name", nil, "name of the file: GLOB; may be given more than once")
	f.StringArrayVar(&o.inames, "iname", nil, "like --name, in upper or lower case")
	f.StringArrayVar(&o.paths, "path", nil, "path below the archive: GLOB")
	f.StringVar(&o.regex, "regex", "", "path below the archive: regular expression (RE2), which must match all of it")
	f.StringVar(&o.types, "type", "", "types: f (file), d (directory), l (symlink), b, c (devices), p (fifo), s (socket), as f,l")
	f.StringArrayVar(&o.sizes, "size", nil, "size: +10M for more, -10M for less, 10M for exactly that")
	f.Var(&o.newer, "newer", "changed after this time: 2026-11-20, 2026-11-20T10:00:00Z, or 7d for seven days ago")
	f.Var(&o.older, "older", "changed before this time")
	f.StringVar(&o.owner, "owner", "", "owner: UID, UID:GID or :GID, as numbers")
	f.StringVar(&o.perm, "perm", "", "permissions: 644 for exactly these, -644 for at least these, /022 for any of these")
	o.span.register(f)
	f.BoolVar(&o.all, "all", false, "one line for each snapshot that has the file")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, one line for each version of a file")
	f.BoolVarP(&o.print0, "print0", "0", false, "print only paths, each ended by a NUL byte")
	return cmd
}

// searchCache is the default memory for chunks: a search goes through most of them once.
const searchCache = 128 << 20

// finding is one run of find.
type finding struct {
	*app
	*findOptions
	d      *opened
	search *find.Search
	out    *bufio.Writer
	show   func(string) string
	busy   *working
	unread unread
}

// find prints what is found at and below a path.
func (a *app) find(ctx context.Context, d *opened, p string, filter *find.Filter, o *findOptions) (err error) {
	out := bufio.NewWriter(a.stdout)
	defer func() { err = errors.Join(err, out.Flush()) }()
	holds, err := tree.NewHolds(ctx, d.ref, holdLimit())
	if err != nil {
		return err
	}
	defer holds.Close()
	f := &finding{app: a, findOptions: o, d: d, out: out, show: printer{out: out, escape: isTerminal(a.stdout)}.text, busy: a.working()}
	defer f.busy.end()
	f.search = &find.Search{
		Holds: holds, Tree: d.tree, Filter: filter, All: o.all,
		Fn: f.print, Problem: f.unread.add, Seen: f.busy.add,
	}
	if err := f.below(ctx, p); err != nil {
		return err
	}
	return f.unread.err()
}

// below searches at and below a path.
func (f *finding) below(ctx context.Context, p string) error {
	if at, ok := placeOf(p); ok && at.when != "" {
		return f.inSnapshot(ctx, p, at)
	}
	var groups []name.Group
	var listing error
	err := f.d.at(ctx, p, false, func(r *store.Reader, n *tree.Node) error {
		listing = tree.Groups(ctx, r, n, func(g name.Group) error {
			groups = append(groups, g)
			return nil
		})
		if listing != nil && !errors.Is(listing, tree.ErrIncomplete) {
			return atPath(p, listing)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := f.group(ctx, g); err != nil {
			return err
		}
	}
	return listing
}

// group searches the snapshots of a group.
func (f *finding) group(ctx context.Context, g name.Group) error {
	f.busy.at(g.String())
	snaps, listing := f.d.snapshotsOf(ctx, g, f.span)
	if errors.Is(listing, fs.ErrNotExist) {
		return nil // it has been removed
	}
	if listing != nil && !errors.Is(listing, tree.ErrIncomplete) {
		return listing
	}
	return errors.Join(f.search.Group(ctx, snaps, nil), listing)
}

// inSnapshot searches one snapshot, or a part of it.
func (f *finding) inSnapshot(ctx context.Context, p string, at place) error {
	var s name.Snapshot
	whole := path.Clean("/" + p)
	if len(at.rest) == 0 {
		whole += "/." // the link to the newest is followed
	}
	err := f.d.at(ctx, whole, false, func(r *store.Reader, _ *tree.Node) (err error) {
		if s, err = at.snapshot(ctx, r); err != nil {
			return atPath(p, err)
		}
		for i := range at.rest {
			prefix := strings.Join(append([]string{s.String()}, at.rest[:i+1]...), "/")
			n, err := f.d.tree.Walk(ctx, r, prefix, false)
			switch {
			case err != nil:
				return atPath(prefix, err)
			case n.Type() == unix.S_IFLNK && i < len(at.rest)-1:
				return fmt.Errorf("/%s is a symbolic link; say the path that it leads to", prefix)
			case i == 0 && n.IsDir() && n.Broken() == nil && !n.IsArchive():
				return fmt.Errorf("/%s: what lies on disks is not searched; a mount shows it", prefix)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.busy.at(s.String())
	return f.search.Group(ctx, []name.Snapshot{s}, at.rest)
}

// print prints what was found.
func (f *finding) print(x find.Found) error {
	f.busy.clear()
	switch {
	case f.asJSON:
		if err := f.out.Flush(); err != nil {
			return err
		}
		return f.json(foundObject(x))
	case f.all:
		for _, s := range slices.Backward(x.Snapshots) {
			if err := f.path(s.String() + "/" + x.Below); err != nil {
				return err
			}
		}
		return nil
	case f.print0:
		return f.path(x.Path)
	}
	count := "1 snapshot, " + x.Last.Time().String()
	if x.Count > 1 {
		count = fmt.Sprintf("%d snapshots, %s to %s", x.Count, x.First.Time(), x.Last.Time())
	}
	if _, err := fmt.Fprintf(f.out, "%s  %s\n", f.show(x.Path), count); err != nil {
		return err
	}
	return f.flushed()
}

// path prints a path alone.
func (f *finding) path(p string) error {
	end := "\n"
	if f.print0 {
		end = "\x00"
	} else {
		p = f.show(p)
	}
	if _, err := f.out.WriteString(p + end); err != nil {
		return err
	}
	return f.flushed()
}

// flushed writes what was found to a terminal, whose reader waits for it.
func (f *finding) flushed() error {
	if !isTerminal(f.stdout) {
		return nil
	}
	return f.out.Flush()
}

// foundJSON is a line of find --json.
type foundJSON struct {
	Path string `json:"path"`
	// Bytes is the path as it is, if it is not valid UTF-8.
	Bytes     []byte   `json:"path_base64,omitempty"`
	Type      string   `json:"type"`
	Size      *int64   `json:"size,omitempty"`
	Mtime     string   `json:"mtime,omitempty"`
	Mode      string   `json:"mode,omitempty"`
	UID       *uint32  `json:"uid,omitempty"`
	GID       *uint32  `json:"gid,omitempty"`
	Count     int      `json:"count"`
	First     string   `json:"first"`
	Last      string   `json:"last"`
	Snapshots []string `json:"snapshots,omitempty"`
}

func foundObject(x find.Found) *foundJSON {
	out := &foundJSON{
		Path: x.Path, Type: compare.TypeName(x.State.Type), Count: x.Count,
		First: x.First.Time().String(), Last: x.Last.Time().String(),
	}
	if !utf8.ValidString(x.Path) {
		out.Bytes = []byte(x.Path)
	}
	if x.State.Type == unix.S_IFREG {
		out.Size = &x.State.Size
		out.Mtime = time.Unix(x.State.Mtime, 0).UTC().Format(time.RFC3339)
	}
	if x.State.Known {
		out.Mode = fmt.Sprintf("%04o", x.State.Mode)
		out.UID, out.GID = &x.State.UID, &x.State.GID
	}
	for _, s := range x.Snapshots {
		out.Snapshots = append(out.Snapshots, s.String())
	}
	return out
}
