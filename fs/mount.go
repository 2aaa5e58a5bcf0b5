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

// TypeName is the type of this package's mounts in the mount table, after "fuse.".
const TypeName = "pbsfs"

// Options say how a tree is mounted.
type Options struct {
	// AllowOther lets other users use the mount.
	AllowOther bool
	// UID, GID and Umask replace the stored values, unless they are negative.
	UID, GID, Umask int64
	// NoExec keeps programs on the mount from being run.
	NoExec bool
	// MaxInodes is how many objects the kernel may know. At three quarters of that
	// number, pbsfs begins to ask the kernel to forget some. 0 means no limit. Each
	// object takes less than 1 KiB of memory.
	MaxInodes int
	// Failed is called with each error that a request is answered with, names that do not
	// exist included, and with that of each read that is answered with zeros instead; nil
	// for nothing. It must be quick, and safe for concurrent use.
	Failed func(error)
	// Log gets the problems, each cause once.
	Log *slog.Logger
	// Debug logs every request.
	Debug bool
	// Hands mount and unmount; this process does it if there are none.
	Hands Hands
}

// NoReplacement is the value of [Options.UID], GID and Umask that keeps the stored
// values.
const NoReplacement = -1

// Mount is a mounted tree. [Mount.Stop] or an umount ends it.
type Mount struct {
	server *fuse.Server
	fsys   *filesystem
	root   *inode
	ended  chan struct{} // closed when the mount has ended
	place  *place
	hands  Hands
	at     mounts.Mount // the mount as it was when it was made
	conn   *mounts.Connection
}

// maxBackground is how many requests that no program waits for may be under way:
// read-ahead, with a buffer of up to maxRequest each, and RELEASE, which queues behind
// it. With go-fuse's default of 12, a few slow reads kept files counted as open for
// seconds.
const maxBackground = 256

const (
	// maxRequest is the largest read that the kernel sends at once. Many such reads may
	// be under way, and their memory is not part of any cache.
	maxRequest = 256 << 10
	// maxReadAhead is how far the kernel reads ahead.
	maxReadAhead = 1 << 20
)

// New mounts the tree of a datastore at mountpoint and serves it. It returns when the
// kernel has the mount. The caller may close ref when the mount has ended, see
// [Mount.Ended].
func New(ref *store.Lookup, mountpoint string, opts Options) (*Mount, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	fsys := newFilesystem(ref, ownership{opts.UID, opts.GID, opts.Umask}, opts.Log)
	if opts.Failed != nil {
		fsys.failed = opts.Failed
	}
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
	if opts.Hands == nil {
		opts.Hands = Direct{}
	}
	place, err := openPlace(mountpoint, opts.Hands)
	if err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", mountpoint, err)
	}
	server, conn, err := connect(newRaw(raw), wanted(ref, mountpoint, opts), opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mounting on %s: %w", mountpoint, err), place.withdraw(ref.Path()))
	}
	m := &Mount{server: server, fsys: fsys, root: root, place: place, hands: opts.Hands, conn: conn, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		server.Serve()
		conn.Close()
		fsys.releaseAll()
	}()
	if err := m.locate(ref.Path()); err != nil {
		return nil, fmt.Errorf("mounting on %s: %w", mountpoint, err)
	}
	if err := m.hands.Settle(context.Background(), m.at); err != nil {
		opts.Log.Debug("the mount works, though not in every way", "error", err)
	}
	if fsys.pruner != nil {
		go fsys.pruner.run(root.EmbeddedInode(), m.ended, opts.Log)
	}
	go m.watchPlace()
	return m, nil
}

// locate waits until the kernel has the mount, and finds it in the mount table. If two
// commands have mounted at once, the mount that lies upon the other tree is withdrawn.
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
		return errors.Join(fmt.Errorf("%s %w", under.Source, ErrMounted), m.hands.Unmount(context.Background(), at, true))
	}
	return nil
}

// ErrMounted says that a tree is already mounted at the place of a new one.
var ErrMounted = errors.New("is mounted there already")

// At returns the mount as it was when it was made.
func (m *Mount) At() mounts.Mount { return m.at }

// wanted returns the mount that is to be made. For root and with allow_other, the kernel
// checks permissions, with ACLs. A private mount of a user has no checks, because its
// user may read the chunks of which everything consists.
func wanted(ref *store.Lookup, point string, opts Options) Wanted {
	return Wanted{
		Point: point, Source: ref.Path(), AllowOther: opts.AllowOther, NoExec: opts.NoExec,
		Checked: os.Geteuid() == 0 || opts.AllowOther,
	}
}

// connect makes the mount and begins the conversation with the kernel.
func connect(raw fuse.RawFileSystem, w Wanted, opts Options) (*fuse.Server, *mounts.Connection, error) {
	f, err := opts.Hands.Mount(context.Background(), w)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	// By this name go-fuse takes a connection that is there, as a descriptor of its own.
	server, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{
		MaxBackground:        maxBackground,
		MaxWrite:             maxRequest,
		MaxReadAhead:         maxReadAhead,
		DisableSplice:        true,
		EnableSymlinkCaching: true,
		EnableAcl:            w.Checked,
		Logger:               slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn),
		Debug:                opts.Debug,
	})
	if err != nil {
		return nil, nil, err
	}
	conn, err := mounts.NewConnection(f)
	return server, conn, err
}

// Ended returns a channel that is closed when the mount has ended for any reason.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// CutOff reports whether the kernel ended the connection of a mount that is still in the
// mount table: somebody has aborted it. After an unmount, it is not in the table any more.
func (m *Mount) CutOff() bool {
	select {
	case <-m.ended:
	default:
		return false
	}
	table, err := mounts.Mounts()
	if err != nil {
		return false
	}
	_, there := table.Find(m.at)
	return there
}

// Handles returns the open handles, sorted by path.
func (m *Mount) Handles() []Handle { return m.fsys.openHandles() }

// Problems returns the last problems, oldest first.
func (m *Mount) Problems() []Problem { return m.fsys.problems.recent() }
