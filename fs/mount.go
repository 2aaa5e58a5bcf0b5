package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/store"
)

// TypeName is what mounts of this package are called in the mount table, after
// "fuse.".
const TypeName = "pbsfs"

// Options say how a tree is mounted.
type Options struct {
	// AllowOther lets other users use the mount.
	AllowOther bool
	// UID, GID and Umask replace what is stored; negative values do not.
	UID, GID, Umask int64
	// Extra are mount options for the kernel, as given to -o.
	Extra []string
	// MaxInodes is how many objects the kernel may know: from three quarters of
	// them on it is asked to forget some. 0 is any number. Each takes less than
	// 1 KiB of memory.
	MaxInodes int
	// Log gets the problems, each cause once.
	Log *slog.Logger
	// Debug logs every request.
	Debug bool
}

// NoReplacement is the value of [Options.UID], GID and Umask that leaves what
// is stored.
const NoReplacement = -1

// Mount is a mounted tree. It ends by [Mount.Stop], or by somebody's umount.
type Mount struct {
	server *fuse.Server
	fsys   *filesystem
	root   *inode
	ended  chan struct{} // closed when the mount has ended
	place  *place
	at     mounts.Mount // as it was when it was made
	conn   *mounts.Connection
}

// maxBackground is how many requests the kernel has under way that nobody
// waits for: read-ahead, with a buffer of up to maxRequest each, and RELEASE,
// behind it: with go-fuse's default of 12, a few slow reads kept files counted
// as open for seconds.
const maxBackground = 256

const (
	// maxRequest is the largest read the kernel asks for at once: many of them
	// may be under way, and their memory is none of the caches'.
	maxRequest = 256 << 10
	// maxReadAhead is how far the kernel reads ahead.
	maxReadAhead = 1 << 20
)

// New mounts the tree of a datastore at mountpoint and serves it. It returns
// when the kernel has the mount. When the mount has ended, see [Mount.Ended], ref
// may be closed.
func New(ref *store.Lookup, mountpoint string, opts Options) (*Mount, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	fsys := newFilesystem(ref, ownership{opts.UID, opts.GID, opts.Umask}, opts.Log)
	if opts.MaxInodes > 0 {
		fsys.pruner = newPruner(fsys, opts.MaxInodes)
	}
	root := fsys.newInode(fsys.tree.Root())
	attr := fsys.identify(fsys.tree.Root())
	raw := gofs.NewNodeFS(root, &gofs.Options{
		NullPermissions: true,
		RootStableAttr:  &attr,
		Logger:          slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn),
	})
	place, err := openPlace(mountpoint)
	if err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", mountpoint, err)
	}
	server, err := fuse.NewServer(newRaw(raw), mountpoint, mountOptions(ref, opts))
	if err != nil {
		place.Close()
		return nil, fmt.Errorf("mounting on %s: %w", mountpoint, err)
	}
	conn, err := mounts.NewConnection(place.connections)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mounting on %s: %w", mountpoint, err), place.withdraw(ref.Path()))
	}
	m := &Mount{server: server, fsys: fsys, root: root, place: place, conn: conn, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		server.Serve()
		conn.Close()
		fsys.releaseAll()
	}()
	if err := m.locate(ref.Path()); err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", mountpoint, err)
	}
	m.readFurtherAhead(opts.Log)
	if fsys.pruner != nil {
		go fsys.pruner.run(root.EmbeddedInode(), m.ended, opts.Log)
	}
	go m.watchPlace()
	return m, nil
}

// locate waits until the kernel has the mount, and finds it in the mount table. A
// mount that lies upon another tree is withdrawn: two commands mounted at once.
func (m *Mount) locate(source string) error {
	if err := m.server.WaitMount(); err != nil {
		return errors.Join(err, m.place.withdraw(source))
	}
	at, under, err := m.place.find(source)
	if err != nil {
		return err
	}
	m.at = at
	if under.FSType == fsType {
		return errors.Join(fmt.Errorf("%s %w", under.Source, ErrMounted), Unmount(context.Background(), at, true))
	}
	if os.Geteuid() == 0 {
		if err := mounts.MakePrivate(at); err != nil {
			m.fsys.problems.log.Debug("what is mounted upon the tree is not private", "error", err)
		}
	}
	return nil
}

// ErrMounted says that a tree is mounted at a place, where another one was to be.
var ErrMounted = errors.New("is mounted there already")

// At returns the mount as it was when it was made.
func (m *Mount) At() mounts.Mount { return m.at }

// readFurtherAhead has the kernel read further ahead of who reads a file from its
// beginning to its end: by its default, 128 KiB, it asks eight times as often.
// Only root can say so.
func (m *Mount) readFurtherAhead(log *slog.Logger) {
	if os.Geteuid() != 0 {
		return
	}
	if err := mounts.SetReadAhead(m.at.Major, m.at.Minor, maxReadAhead>>10); err != nil {
		log.Debug("the kernel reads ahead by its default", "error", err)
	}
}

// mountOptions are those of every mount, and the permission checks: by the
// kernel, with ACLs, for root and with allow_other; none for a private mount of
// a user, who may read the chunks that everything is made of.
func mountOptions(ref *store.Lookup, opts Options) *fuse.MountOptions {
	root := os.Geteuid() == 0
	m := &fuse.MountOptions{
		AllowOther:           opts.AllowOther,
		FsName:               ref.Path(),
		Name:                 TypeName,
		MaxBackground:        maxBackground,
		MaxWrite:             maxRequest,
		MaxReadAhead:         maxReadAhead,
		DisableSplice:        true,
		EnableSymlinkCaching: true,
		DirectMountStrict:    root,
		DirectMountFlags:     unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
		Logger:               slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn),
		Debug:                opts.Debug,
		Options:              append([]string{}, opts.Extra...),
	}
	if !root { // fusermount3 takes them as options; it forbids suid and dev itself
		m.Options = append(m.Options, "ro", "nosuid", "nodev")
	}
	if root || opts.AllowOther {
		m.Options = append(m.Options, "default_permissions")
		m.EnableAcl = true
	}
	return m
}

// Ended returns a channel that is closed when the mount has ended, whoever
// ended it.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// Handles returns what is open, by path.
func (m *Mount) Handles() []Handle { return m.fsys.openHandles() }

// Problems returns the last problems, oldest first.
func (m *Mount) Problems() []Problem { return m.fsys.problems.recent() }
