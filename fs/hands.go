package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// Hands do what the process that serves a tree may not do itself, once it has given up
// its rights: see [Direct] for who may.
type Hands interface {
	// Mount makes a mount, and returns the connection to the kernel.
	Mount(ctx context.Context, w Wanted) (*os.File, error)
	// Settle sets up a mount that was just made, as far as this user may.
	Settle(ctx context.Context, m mounts.Mount) error
	// Unmount is [Unmount].
	Unmount(ctx context.Context, m mounts.Mount, lazily bool) error
}

// Wanted is a mount of a tree that is to be made. It is read-only, and no program or
// device on it is believed, whatever else is wanted.
type Wanted struct {
	Point      string `json:"point"`
	Source     string `json:"source"`
	AllowOther bool   `json:"allow_other,omitempty"`
	// Checked lets the kernel check permissions.
	Checked bool `json:"checked,omitempty"`
	NoExec  bool `json:"noexec,omitempty"`
}

// Direct does everything in this process. Root needs CAP_SYS_ADMIN; any other user runs
// fusermount3, which is set-user-id root.
type Direct struct{}

var _ Hands = Direct{}

// Mount makes a mount.
func (Direct) Mount(ctx context.Context, w Wanted) (*os.File, error) {
	if os.Geteuid() == 0 {
		return w.mount()
	}
	return w.ask(ctx)
}

// words returns the options that both ways of mounting have in common.
func (w Wanted) words() []string {
	out := []string{fmt.Sprintf("max_read=%d", maxRequest)}
	if w.Checked {
		out = append(out, "default_permissions")
	}
	if w.AllowOther {
		out = append(out, "allow_other")
	}
	return out
}

// mount makes the mount with mount(2).
func (w Wanted) mount() (*os.File, error) {
	f, err := mounts.OpenFUSE()
	if err != nil {
		return nil, err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	if w.NoExec {
		flags |= unix.MS_NOEXEC
	}
	words := append([]string{
		fmt.Sprintf("fd=%d", f.Fd()), fmt.Sprintf("rootmode=%o", unix.S_IFDIR),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
	}, w.words()...)
	if err := unix.Mount(w.Source, w.Point, fsType, flags, strings.Join(words, ",")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ask has fusermount3 make the mount.
func (w Wanted) ask(ctx context.Context) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer ours.Close()
	defer theirs.Close()
	escape := strings.NewReplacer(`\`, `\\`, ",", `\,`)
	words := append(w.words(), "ro", "nosuid", "nodev", "subtype="+TypeName, escape.Replace("fsname="+w.Source))
	if w.NoExec {
		words = append(words, "noexec")
	}
	cmd := exec.CommandContext(ctx, "fusermount3", "-o", strings.Join(words, ","), "--", w.Point)
	cmd.Dir = "/"
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "_FUSE_COMMFD=") }), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), err)
	}
	// The program has ended, so what it sent is there.
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 8), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("fusermount3 sent no connection: %w", err)
	}
	return TakeConnection(oob[:n])
}

// TakeConnection returns the one descriptor that came with a message.
func TakeConnection(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d messages about descriptors, not one", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("%d descriptors, not one", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), mounts.FUSEDevice), nil
}

// Settle keeps what is mounted upon a tree from showing elsewhere, and makes the kernel
// read further ahead in a file that is read from its beginning to its end: with its
// default of 128 KiB, it sends eight times as many requests. Only root can do either.
func (Direct) Settle(_ context.Context, m mounts.Mount) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var errs error
	if err := mounts.MakePrivate(m); err != nil {
		errs = fmt.Errorf("what is mounted upon the tree is not private: %w", err)
	}
	if err := mounts.SetReadAhead(m.Major, m.Minor, maxReadAhead>>10); err != nil {
		errs = errors.Join(errs, fmt.Errorf("the kernel reads ahead by its default: %w", err))
	}
	return errs
}

// Unmount takes a mount away.
func (Direct) Unmount(ctx context.Context, m mounts.Mount, lazily bool) error {
	return Unmount(ctx, m, lazily)
}
