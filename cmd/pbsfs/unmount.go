package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint"
)

const unmountHelp = `Unmount a tree: the one at MOUNTPOINT, or all those of DATASTORE.

It is refused (exit 3), with a list of who is in the way, while files are open in
the mount or a process has its working directory there, after waiting for
--wait. The command returns when the process that served the mount has ended.

For a removable datastore, DATASTORE is its device as well. It is refused (exit 3)
while any process, pbsfs or the Proxmox Backup Server, has operations active, or
something keeps the device or a tree busy; then nothing has changed. Meanwhile the
maintenance mode is unmount; should the command be killed, the next one takes that
back. A mode that the server has set is left alone (exit 4).

A mount whose serving process is gone is taken away whoever uses it.

--force takes the mount away from under those who use it, lazily: what is open
stays readable for them, and the serving process stays until the last of them
has closed it.`

const (
	// endTimeout is how long a serving process gets to end after its mount has.
	endTimeout = 10 * time.Second
	// answerTimeout is how long a mount that nobody is known to serve gets to
	// say so.
	answerTimeout = time.Second
	// retryAfter is how often what is busy is tried again.
	retryAfter = 50 * time.Millisecond
	// defaultWait is how long commands wait for who is in the way: a file that
	// was just closed takes a moment to be known as closed.
	defaultWait = 2 * time.Second
)

type unmountOptions struct {
	wait  time.Duration
	force bool
}

func newUnmountCommand(a *app) *cobra.Command {
	var o unmountOptions
	cmd := &cobra.Command{
		Use:     "unmount MOUNTPOINT|DATASTORE",
		Aliases: []string{"umount"},
		Short:   "unmount a tree",
		Long:    unmountHelp,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.wait < 0 {
				return usagef("--wait %s: cannot be negative", o.wait)
			}
			return a.unmount(cmd.Context(), args[0], o)
		},
	}
	cmd.Flags().DurationVar(&o.wait, "wait", defaultWait, "how long to wait for who is in the way")
	cmd.Flags().BoolVar(&o.force, "force", false, "unmount lazily although it is in use")
	return cmd
}

func (a *app) unmount(ctx context.Context, arg string, o unmountOptions) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	mounts, err := findMounts(host, arg)
	if t, ok := removableTarget(host, arg, mounts); ok {
		return a.unmountRemovable(ctx, host, t, o)
	}
	if err != nil {
		return err
	}
	if err := a.unmountTrees(ctx, host, mounts, o); err != nil {
		return err
	}
	return sweepDisks(host)
}

// removableTarget returns the removable datastore that arg is the name of, unless
// it is the place of a mount.
func removableTarget(host maint.Host, arg string, mounts []maint.Mount) (target, bool) {
	where, err := filepath.Abs(arg)
	if err != nil || strings.Contains(arg, "/") || len(mounts) == 1 && mounts[0].Point == placeOf(where) {
		return target{}, false
	}
	t, err := resolve(host, arg)
	return t, err == nil && t.removable != nil
}

func (a *app) unmountTrees(ctx context.Context, host maint.Host, mounts []maint.Mount, o unmountOptions) error {
	known, err := records(host)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	for _, m := range mounts {
		r := recordOf(known, m)
		if r == nil && isDead(m) {
			// Nobody waits for what is still open there: it only gives errors.
			if err := fs.Unmount(m.Point, true); err != nil {
				return err
			}
			continue
		}
		err := unmountBusy(wait, m)
		if errors.Is(err, errActive) && o.force {
			if err := a.unmountLazily(ctx, m); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if r != nil {
			if err := r.waitEnd(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordOf returns the record of a mount, nil if there is none.
func recordOf(known []*mountRecord, m maint.Mount) *mountRecord {
	for _, r := range known {
		if placeOf(r.Mountpoint) == m.Point && r.Path == m.Source {
			return r
		}
	}
	return nil
}

// findMounts returns the mounts that arg means: one at that place, or those of
// that datastore, the last made first.
func findMounts(host maint.Host, arg string) ([]maint.Mount, error) {
	ours, err := ourMounts()
	if err != nil {
		return nil, err
	}
	where, err := filepath.Abs(arg)
	if err != nil {
		return nil, err
	}
	where = placeOf(where)
	var at, of []maint.Mount
	t, rerr := resolve(host, arg)
	for _, m := range ours {
		if m.Point == where {
			at = []maint.Mount{m}
		}
		if rerr == nil && m.Source == t.path {
			of = append([]maint.Mount{m}, of...)
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

// placeOf returns the path of a mount point without symbolic links. The mount
// itself is not looked into: it may hang.
func placeOf(where string) string {
	const links = 40
	for range links {
		dir, err := filepath.EvalSymlinks(filepath.Dir(where))
		if err != nil {
			return where
		}
		where = filepath.Join(dir, filepath.Base(where))
		if m, err := maint.FindMount(where); err == nil && m.Point == where {
			return where
		}
		to, err := os.Readlink(where)
		if err != nil {
			return where
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		where = to
	}
	return where
}

// ourMounts returns the mounts of pbsfs that this process sees, in the order
// they were made.
func ourMounts() ([]maint.Mount, error) {
	all, err := maint.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return slices.DeleteFunc(all, func(m maint.Mount) bool { return m.FSType != fuseType }), nil
}

// isDead reports whether the process that served a mount is gone. A mount that
// hangs is not dead.
func isDead(m maint.Mount) bool {
	dead := make(chan bool, 1)
	go func() {
		var st unix.Statfs_t
		dead <- errors.Is(unix.Statfs(m.Point, &st), unix.ENOTCONN)
	}()
	select {
	case d := <-dead:
		return d
	case <-time.After(answerTimeout):
		return false
	}
}

// unmountBusy unmounts, trying again until ctx ends as long as the mount is in
// use. Then the error matches errActive and lists who uses it.
func unmountBusy(ctx context.Context, m maint.Mount) error {
	for {
		err := fs.Unmount(m.Point, false)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return busyError(m)
		}
	}
}

// busyError says that a mount is in use, and by whom.
func busyError(m maint.Mount) error {
	holders, err := maint.Holders(context.Background(), m.Point)
	if err != nil {
		return fmt.Errorf("%s is %w; who uses it cannot be told: %w", m.Point, errActive, err)
	}
	text := ""
	for _, h := range holders {
		text += "\n  " + h.String()
	}
	if text == "" {
		text = " by somebody who cannot be seen from here"
	}
	return fmt.Errorf("%s is %w%s", m.Point, errActive, text)
}

// unmountLazily takes a mount away from under those who use it, and says what
// that leaves behind.
func (a *app) unmountLazily(ctx context.Context, m maint.Mount) error {
	holders, err := maint.Holders(ctx, m.Point)
	if err != nil {
		return err
	}
	if err := fs.Unmount(m.Point, true); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "pbsfs: %s is unmounted; still in use, and counted as operations until closed, by:\n", m.Point)
	for _, h := range holders {
		fmt.Fprintf(a.stderr, "  %s\n", h)
	}
	return nil
}

// waitEnd waits until the process that served a mount has ended.
func (r *mountRecord) waitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	for r.alive() {
		if ctx.Err() != nil {
			return fmt.Errorf("%s is unmounted, but process %d, which served it, has not ended; another mount namespace may have a copy of the mount", r.Mountpoint, r.PID)
		}
		awaitProcess(r.PID)
	}
	r.remove()
	return nil
}

// awaitProcess returns when a process has ended, or a moment later.
func awaitProcess(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		time.Sleep(retryAfter)
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(retryAfter.Milliseconds()))
}
