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
	// Extra are mount options for the kernel, as given to -o.
	Extra []string
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
		return errors.Join(fmt.Errorf("%s %w", under.Source, ErrMounted), Unmount(context.Background(), at, true))
	}
	if os.Geteuid() == 0 {
		if err := mounts.MakePrivate(at); err != nil {
			m.fsys.problems.log.Debug("what is mounted upon the tree is not private", "error", err)
		}
	}
	return nil
}

// ErrMounted says that a tree is already mounted at the place of a new one.
var ErrMounted = errors.New("is mounted there already")

// At returns the mount as it was when it was made.
func (m *Mount) At() mounts.Mount { return m.at }

// readFurtherAhead makes the kernel read further ahead in a file that is read from its
// beginning to its end. With its default of 128 KiB, the kernel sends eight times as
// many requests. Only root can change it.
func (m *Mount) readFurtherAhead(log *slog.Logger) {
	if os.Geteuid() != 0 {
		return
	}
	if err := mounts.SetReadAhead(m.at.Major, m.at.Minor, maxReadAhead>>10); err != nil {
		log.Debug("the kernel reads ahead by its default", "error", err)
	}
}

// mountOptions returns the options of every mount and those for permission checks. For
// root and with allow_other, the kernel checks permissions, with ACLs. A private mount
// of a user has no checks, because its user may read the chunks of which everything
// consists.
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
	if !root { // fusermount3 takes them as options, and sets nosuid and nodev itself
		m.Options = append(m.Options, "ro", "nosuid", "nodev")
	}
	if root || opts.AllowOther {
		m.Options = append(m.Options, "default_permissions")
		m.EnableAcl = true
	}
	return m
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
