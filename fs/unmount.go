package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// drainPoll is how often Stop looks whether the last handle was closed.
const drainPoll = 20 * time.Millisecond

// endPatience is how long the kernel may take to end the connection of a mount that was
// taken away. After that time something, such as an overlay, still uses the mount, and
// Stop cuts it off.
const endPatience = time.Second

// Stop ends the mount. It refuses new opens, waits until ctx ends for the open handles
// to be closed, and unmounts. Handles that are still open then are cut off: the mount
// is taken away, requests for them fail, and Stop returns them. Stop touches no mount
// that another program has made upon the tree.
func (m *Mount) Stop(ctx context.Context) ([]Handle, error) {
	m.fsys.stop()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if len(m.Handles()) == 0 && m.takeAway(ctx, false) == nil {
			m.awaitEnd()
			return nil, nil
		}
		select {
		case <-m.ended:
			return nil, nil
		case <-tick.C:
		case <-ctx.Done():
			left := m.Handles()
			return left, m.takeAway(context.WithoutCancel(ctx), true)
		}
	}
}

func (m *Mount) awaitEnd() {
	select {
	case <-m.ended:
	case <-time.After(endPatience):
	}
}

// takeAway unmounts the tree everywhere. Lazily, it leaves a mount with another
// program's mount inside, which would go away with it.
func (m *Mount) takeAway(ctx context.Context, lazily bool) error {
	left, err := m.left()
	if err != nil {
		return err
	}
	var errs error
	for _, e := range left {
		if lazily {
			errs = errors.Join(errs, m.detach(ctx, e))
		} else if err := m.hands.Unmount(ctx, e, false); err != nil {
			return err
		}
	}
	return errs
}

// detach unmounts lazily, unless that would take another mount away as well.
func (m *Mount) detach(ctx context.Context, at mounts.Mount) error {
	table, err := mounts.Mounts()
	if err != nil {
		return err
	}
	for _, in := range table.Inside(at) {
		return fmt.Errorf("unmounting %s: something is mounted inside, on %q: %w", at.Point, in.Point, unix.EBUSY)
	}
	return m.hands.Unmount(ctx, at, true)
}

// Unmount takes away one mount of a tree, and no other mount there. An error that
// matches EBUSY says that a program uses the mount; lazily, it is taken away all the
// same. Unmount does not look into the mount, because its process may be dead or hang.
func Unmount(ctx context.Context, m mounts.Mount, lazily bool) error {
	if os.Geteuid() == 0 {
		return mounts.UnmountOnly(m, lazily)
	}
	if err := onTop(m); err != nil {
		return err
	}
	args := []string{"-u", m.Point}
	if lazily {
		args = []string{"-u", "-z", m.Point}
	}
	cmd := exec.CommandContext(ctx, "fusermount3", args...)
	cmd.Dir = "/" // the working directory must not be in the tree
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if strings.Contains(strings.ToLower(text), "busy") {
		return fmt.Errorf("unmounting %s: %w", m.Point, unix.EBUSY)
	}
	return fmt.Errorf("unmounting %s: %s: %w", m.Point, text, err)
}

// onTop makes sure that fusermount3 takes the right mount away: it takes the topmost
// one.
func onTop(m mounts.Mount) error {
	table, err := mounts.Mounts()
	if err != nil {
		return err
	}
	now, ok := table.Find(m)
	if !ok {
		return fmt.Errorf("%s: %w", m.Point, mounts.ErrNotMounted)
	}
	if by, hidden := table.Hides(now); hidden {
		return &mounts.HiddenError{Mount: now, By: by}
	}
	if upon := table.Upon(now); len(upon) > 0 {
		top := upon[len(upon)-1]
		return fmt.Errorf("unmounting %s: %s (%s) is mounted upon it, and only root can unmount what is below; unmount that first: %w",
			now.Point, top.FSType, top.Source, unix.EBUSY)
	}
	return nil
}
