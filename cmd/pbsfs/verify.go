package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/verify"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const verifyHelp = `Check everything that snapshots consist of, and say what damage costs.

Manifests, indexes, blobs and the client's logs of all snapshots at or below PATH
are checked, the newest snapshots first, and each chunk that they refer to, once
however many snapshots have it: CRC, length, digest and whether it is encrypted.
Without PATH, that is the whole datastore; a path inside a snapshot stands for the
whole snapshot. With the keys (--keyfile), encrypted data and the signatures of
manifests are checked, too; without, encrypted data is checked as far as that goes,
and the summary says how much that was.

For each damaged chunk it is listed which files of which snapshots it costs, with
the ranges that cannot be read: "bytes 0-4095" of a file, of a disk image, or of an
archive whose key is not known. The files inside of disk images are not looked for.
Nothing is written into the datastore, and the server does not learn of the result.

--skip-verified leaves out the snapshots that the server itself has verified, with a
good result, not longer ago than that; anybody who can write to the datastore can
claim that. --sample checks each chunk with that probability, and all other files.

A snapshot that is removed meanwhile is no damage. The exit code is 5 if there is
damage, and 1 if something could not be checked.`

// verifyOptions are the flags of verify.
type verifyOptions struct {
	openOptions
	skipVerified dayDuration
	sample       share
	throttle     byteRate
	unreferenced bool
	json         bool
	files        int
}

// defaultFiles is how many files verify shows for each damaged chunk.
const defaultFiles = 10

func newVerifyCommand(a *app) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:               "verify DATASTORE [PATH...]",
		Short:             "check snapshots and chunks, and what damage costs",
		Long:              verifyHelp,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completePaths(&o.openOptions, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args[1:]); err != nil {
				return err
			}
			return a.read(cmd.Context(), args[0], o.openOptions, func(ctx context.Context, d *opened) error {
				return a.verify(ctx, d, args[1:], o)
			})
		},
	}
	f := cmd.Flags()
	o.register(f)
	f.Var(&o.skipVerified, "skip-verified", "leave out what the server has verified in that time: 30d, 2w, 12h")
	f.Var(&o.sample, "sample", "check a random part of the chunks: 5%")
	f.Var(&o.throttle, "throttle", "read no more than that in a second: 50MiB/s")
	f.BoolVar(&o.unreferenced, "unreferenced", false, "count the chunks that no finished snapshot refers to")
	f.BoolVar(&o.json, "json", false, "print results as lines of JSON, as they are found")
	f.IntVar(&o.files, "max-files", defaultFiles, "how many files to show for each damaged chunk; 0 shows all")
	return cmd
}

// check returns an error for flags that make no sense.
func (o *verifyOptions) check(paths []string) error {
	switch {
	case o.unreferenced && len(paths) > 0:
		return usage.Errorf("--unreferenced looks at the whole datastore; give no PATH")
	case o.cachedOnly:
		return usage.Errorf("--cached-only: what is only in the bucket cannot be verified from here")
	case o.files < 0:
		return usage.Errorf("--max-files %d: want 0 or more", o.files)
	}
	return nil
}

// lastResults bounds the time to print what was found after a signal.
const lastResults = 5 * time.Second

// verify runs verify. What was found is printed whatever ends the run.
func (a *app) verify(ctx context.Context, d *opened, paths []string, o *verifyOptions) error {
	defer a.moment.allow(lastResults)()
	r, err := d.ref.Acquire(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	var snapshots, unfinished []name.Snapshot
	var incomplete error
	if len(paths) == 0 {
		paths = []string{""}
	}
	for _, p := range paths {
		done, left, err := d.snapshotsAt(ctx, r, p)
		if err != nil && !errors.Is(err, tree.ErrIncomplete) {
			return err
		}
		incomplete = errors.Join(incomplete, err)
		snapshots, unfinished = append(snapshots, done...), append(unfinished, left...)
	}
	count := &verify.Counts{}
	out := a.verifyOutput(o)
	for _, s := range unfinished {
		count.Unfinished.Add(1)
		if err := out.Told(verify.Told{Snapshot: s, Note: verify.Unfinished}); err != nil {
			return err
		}
	}
	live := a.liveLine(func(since time.Duration) string { return verifyProgress(count, since) })
	err = verify.Run(ctx, d.ref, r, snapshots, verify.Options{
		SkipVerified: time.Duration(o.skipVerified), Sample: float64(o.sample), Rate: int64(o.throttle.byteSize), Unreferenced: o.unreferenced,
	}, count, out)
	live.end()
	if perr := out.summary(count, err == nil); perr != nil {
		return perr
	}
	return verdict(count, err, incomplete)
}

// snapshotsAt returns the snapshots at or below p, and those that are not finished.
func (d *opened) snapshotsAt(ctx context.Context, r *store.Reader, p string) (finished, unfinished []name.Snapshot, err error) {
	n, err := d.tree.Walk(ctx, r, p, true)
	if err != nil {
		return nil, nil, d.notThere(ctx, r, p, atPath(p, err))
	}
	finished, unfinished, err = verify.Collect(ctx, r, n)
	if err != nil {
		err = atPath(p, err)
	}
	return finished, unfinished, err
}

// verdict returns the error with which the command ends.
func verdict(count *verify.Counts, err, incomplete error) error {
	if err != nil {
		return err
	}
	if chunks, files := count.DamagedChunks.Load(), count.DamagedFiles.Load(); chunks+files > 0 {
		return fmt.Errorf("%w: %s and %s are damaged, which costs %s", store.ErrCorrupt,
			counted(chunks, "chunk"), counted(files, "file of snapshots", "files of snapshots"), costText(count))
	}
	busy, unchecked := count.Busy.Load(), count.Unchecked.Load()
	if busy+unchecked > 0 {
		return fmt.Errorf("not everything could be checked: %s locked, %s that could not be read", counted(busy, "snapshot"), counted(unchecked, "file"))
	}
	return incomplete
}

// costText says how much damage costs.
func costText(count *verify.Counts) string {
	text := counted(count.HitFiles.Load(), "file")
	if n := count.HitDirs.Load(); n > 0 {
		text += " and what lies in " + counted(n, "directory", "directories")
	}
	return text
}

func verifyProgress(count *verify.Counts, since time.Duration) string {
	text := fmt.Sprintf("verify: %d of %s, %s, %s, %s/s", count.Snapshots.Load(), counted(count.Total.Load(), "snapshot"),
		counted(count.Chunks.Load(), "chunk"), sizeText(count.Bytes.Load()), sizeText(count.Rate(since)))
	if n := count.DamagedChunks.Load() + count.DamagedFiles.Load(); n > 0 {
		text += fmt.Sprintf(", %d damaged", n)
	}
	return text
}
