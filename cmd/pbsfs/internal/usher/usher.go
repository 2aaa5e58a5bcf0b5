package usher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// Usher is the other process, as the serving one has it. Its owner must Close it.
type Usher struct {
	conn *net.UnixConn
	wait func() error // for its end

	mu      sync.Mutex
	last    uint64                 // guarded by mu
	waiting map[uint64]chan result // guarded by mu; nil once the usher is gone
}

var _ fs.Hands = (*Usher)(nil)

type result struct {
	answer
	oob []byte
}

// ErrGone says that the usher has ended.
var ErrGone = errors.New("the process that mounts and unmounts for this one has ended")

// socketFD is the usher's descriptor of the socket.
const socketFD = 3

// Start starts program as the usher, with the arguments that make it one.
func Start(program string, env []string, args ...string) (*Usher, error) {
	u, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.ExtraFiles = env, []*os.File{theirs}
	// Of a group of its own, no signal of a terminal reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the process that mounts: %w", err), u.conn.Close())
	}
	u.wait = cmd.Wait
	return u, nil
}

// Within returns an usher in this process, which keeps all of its rights.
func Within(ctx context.Context, o Options) (*Usher, error) {
	u, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	conn, err := connOf(theirs)
	if err != nil {
		return nil, errors.Join(err, u.conn.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, conn, o) }()
	u.wait = func() error { return <-ended }
	return u, nil
}

// pair makes the socket.
func pair() (u *Usher, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "usher")
	conn, err := connOf(os.NewFile(uintptr(fds[0]), "usher"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	u = &Usher{conn: conn, waiting: make(map[uint64]chan result)}
	go u.receive()
	return u, theirs, nil
}

// receive hands answers to those who wait for them, until the usher is gone.
func (u *Usher) receive() {
	for {
		var r result
		var err error
		if r.oob, err = receive(u.conn, &r.answer); err != nil {
			break
		}
		u.mu.Lock()
		c := u.waiting[r.ID]
		delete(u.waiting, r.ID)
		u.mu.Unlock()
		if c != nil {
			c <- r
		} else if f, err := fs.TakeConnection(r.oob); err == nil {
			_ = f.Close() // nobody waits for it any more
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.waiting {
		close(c)
	}
	u.waiting = nil
}

// ask sends a request and waits for its answer.
func (u *Usher) ask(ctx context.Context, r request) (result, error) {
	c := make(chan result, 1)
	u.mu.Lock()
	if u.waiting == nil {
		u.mu.Unlock()
		return result{}, ErrGone
	}
	u.last++
	r.ID = u.last
	u.waiting[r.ID] = c
	u.mu.Unlock()
	if err := send(u.conn, r, nil); err != nil {
		return result{}, errors.Join(ErrGone, err)
	}
	select {
	case got, ok := <-c:
		switch {
		case !ok:
			return got, ErrGone
		case got.Failed != nil:
			return got, got.Failed
		}
		return got, nil
	case <-ctx.Done():
		u.mu.Lock()
		delete(u.waiting, r.ID)
		u.mu.Unlock()
		return result{}, context.Cause(ctx)
	}
}

// Attach finds a datastore and mounts its device.
func (u *Usher) Attach(ctx context.Context, a Attach) (*Attached, error) {
	got, err := u.ask(ctx, request{What: toAttach, Attach: a})
	if err != nil {
		return nil, err
	}
	if got.Attached == nil {
		return nil, ErrGone
	}
	return got.Attached, nil
}

// Mount makes the mount, which can be done once.
func (u *Usher) Mount(ctx context.Context, w fs.Wanted) (*os.File, error) {
	got, err := u.ask(ctx, request{What: toMount, Wanted: w})
	if err != nil {
		return nil, err
	}
	return fs.TakeConnection(got.oob)
}

// Settle sets up the mount.
func (u *Usher) Settle(ctx context.Context, m mounts.Mount) error {
	_, err := u.ask(ctx, request{What: toSettle, Mount: m})
	return err
}

// Unmount takes the mount away.
func (u *Usher) Unmount(ctx context.Context, m mounts.Mount, lazily bool) error {
	_, err := u.ask(ctx, request{What: toUnmount, Mount: m, Lazily: lazily})
	return err
}

// End gives back what Attach took; see [locate.Attached.End].
func (u *Usher) End(mounted bool) error {
	_, err := u.ask(context.Background(), request{What: toEnd, Mounted: mounted})
	return err
}

// Ask asks the tree whether it answers.
func (u *Usher) Ask(ctx context.Context, patience time.Duration) error {
	_, err := u.ask(ctx, request{What: toAsk, Patience: patience})
	return err
}

// FreeConfigLock takes root's config lock from ordinary users, if they have it for long.
func (u *Usher) FreeConfigLock(ctx context.Context) error {
	_, err := u.ask(ctx, request{What: toFree})
	return err
}

// PathOnDisk returns the path of a directory on the disk that is mounted.
func (u *Usher) PathOnDisk(m mounts.Mount, dir string) (string, error) {
	got, err := u.ask(context.Background(), request{What: toFindPath, Mount: m, Dir: dir})
	return got.Path, err
}

// closePatience is how long Close waits for the usher to end.
const closePatience = 5 * time.Second

// Close ends the usher, which then takes away what no tree was mounted for.
func (u *Usher) Close() {
	_ = u.conn.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = u.wait()
	}()
	select {
	case <-ended:
	case <-time.After(closePatience): // it ends when what it waits for does
	}
}
