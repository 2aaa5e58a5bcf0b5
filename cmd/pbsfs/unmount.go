package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint"
)

const unmountHelp = `Unmount a tree: the one at MOUNTPOINT, or all those of DATASTORE.

It is refused (exit 3) while files are open in the mount, after waiting for
--wait. The command returns when the process that served the mount has ended.`

// endTimeout is how long a serving process gets to end after its mount has.
const endTimeout = 10 * time.Second

// retryAfter is how often what is busy is tried again.
const retryAfter = 50 * time.Millisecond

func newUnmountCommand(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "unmount MOUNTPOINT|DATASTORE",
		Aliases: []string{"umount"},
		Short:   "unmount a tree",
		Long:    unmountHelp,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 {
				return usagef("--wait %s: cannot be negative", wait)
			}
			return a.unmount(cmd.Context(), args[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Second, "how long to wait for open files")
	return cmd
}

func (a *app) unmount(ctx context.Context, arg string, wait time.Duration) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	mounts, err := findMounts(host, arg)
	if err != nil {
		return err
	}
	known, err := records(host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, m := range mounts {
		if err := unmountBusy(ctx, m); err != nil {
			return err
		}
		for _, r := range known {
			if r.Mountpoint == m.where && r.Path == m.source {
				if err := r.waitEnd(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// findMounts returns the mounts that arg means: one at that place, or those of
// that datastore, the last made first.
func findMounts(host maint.Host, arg string) ([]mountEntry, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	where, err := filepath.Abs(arg)
	if err != nil {
		return nil, err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(where)); err == nil {
		where = filepath.Join(dir, filepath.Base(where)) // the mount itself is not touched: it may hang
	}
	var at, of []mountEntry
	t, rerr := resolve(host, arg)
	for _, e := range table {
		if e.fstype != fuseType {
			continue
		}
		if e.where == where {
			at = []mountEntry{e}
		}
		if rerr == nil && e.source == t.path {
			of = append([]mountEntry{e}, of...)
		}
	}
	switch {
	case len(at) > 0:
		return at, nil
	case len(of) > 0:
		return of, nil
	}
	return nil, fmt.Errorf("%s: not mounted", arg)
}

// unmountBusy unmounts, trying again until ctx ends as long as the mount is in
// use.
func unmountBusy(ctx context.Context, m mountEntry) error {
	for {
		err := unmountOnce(m.where)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: files are open there, or a process has its working directory there", m.where, errActive)
		}
	}
}

// unmountOnce unmounts; an error that matches EBUSY says that it is in use.
func unmountOnce(where string) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(where, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w", where, err)
		}
		return nil
	}
	out, err := exec.Command("fusermount3", "-u", where).CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if strings.Contains(text, unix.EBUSY.Error()) || strings.Contains(text, "busy") {
		return fmt.Errorf("unmounting %s: %w", where, unix.EBUSY)
	}
	return fmt.Errorf("unmounting %s: %s: %w", where, text, err)
}

// waitEnd waits until the process that served a mount has ended.
func (r *mountRecord) waitEnd() error {
	deadline := time.Now().Add(endTimeout)
	for r.alive() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is unmounted, but process %d, which served it, has not ended", r.Mountpoint, r.PID)
		}
		time.Sleep(retryAfter)
	}
	r.remove()
	return nil
}
