package mountpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// TreesAt returns the mounts that arg means as the name of a mount point: of the
// tree that is on top there, whatever else lies upon it. There is more than one
// where it was bound upon itself. The last made is the first.
func TreesAt(ctx context.Context, arg string) ([]mounts.Mount, error) {
	where := place(ctx, arg)
	ours, err := Ours()
	if err != nil {
		return nil, err
	}
	var at []mounts.Mount
	for _, m := range slices.Backward(ours) {
		if m.Point == where && (len(at) == 0 || m.Device() == at[0].Device()) {
			at = append(at, m)
		}
	}
	return at, nil
}

// place returns the path of a mount point without symbolic links, as far as it
// can be followed in bounded time. What is mounted there is not looked into: it may
// hang.
func place(ctx context.Context, where string) string {
	place, _ := reach.Resolve(ctx, where)
	return place.Path
}

// Ours returns the mounts of pbsfs that this process sees, in the order
// they were made.
func Ours() (mounts.MountTable, error) {
	all, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return slices.DeleteFunc(all, func(m mounts.Mount) bool { return m.FSType != FSType }), nil
}

// answerTimeout is how long a mount that nobody is known to serve gets to say so.
const answerTimeout = time.Second

// IsDead reports whether the process that served a mount is gone. A mount that
// hangs is not dead, and one that lies below something else cannot be asked.
func IsDead(m mounts.Mount) bool {
	table, err := mounts.Mounts()
	if err != nil {
		return false
	}
	if top, ok := table.At(m.Point); !ok || !top.SameMount(m) {
		return false
	}
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

// FSType is the type of our mounts in the mount table.
const FSType = "fuse." + fs.TypeName
