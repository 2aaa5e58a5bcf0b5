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

// TreesAt returns the mounts on the mount point arg, those of the topmost tree there,
// even if something else lies upon it. There are several if the tree was bound upon
// itself. The one that was made last comes first.
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

// place returns the path of a mount point without symbolic links, as far as the path
// can be followed in bounded time. It does not look into the mount there, which may
// hang.
func place(ctx context.Context, where string) string {
	place, _ := reach.Resolve(ctx, where)
	return place.Path
}

// Ours returns the mounts of pbsfs that this process sees, in the order in which they
// were made.
func Ours() (mounts.MountTable, error) {
	all, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return slices.DeleteFunc(all, func(m mounts.Mount) bool { return m.FSType != FSType }), nil
}

// answerTimeout bounds the wait for an answer of a mount whose server is not known.
const answerTimeout = time.Second

// IsDead reports whether the process that served a mount is gone. A mount that hangs is
// not dead, and a mount below another one cannot be asked.
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
