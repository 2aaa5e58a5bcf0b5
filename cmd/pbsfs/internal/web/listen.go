package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// unixPrefix is what an address begins with that is the path of a Unix socket.
const unixPrefix = "unix:"

// ErrAddress says that an address cannot be one to listen on.
var ErrAddress = errors.New("no address to listen on")

// ErrExposed says that an address can be reached from elsewhere, and must not be.
var ErrExposed = errors.New("can be reached from elsewhere")

// Listener is a place where requests arrive.
type Listener struct {
	net.Listener
	// Private says that only the owner of a Unix socket can connect to it.
	Private bool
	// Loopback says that only this host can connect to it.
	Loopback bool

	path string // of a Unix socket that we made
	made os.FileInfo
}

// FromSystemd returns the sockets that systemd has opened for this process, none if there
// are none.
func FromSystemd() ([]*Listener, error) {
	opened, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	var out []*Listener
	for _, l := range opened {
		if l == nil {
			return nil, errors.New("systemd has handed over a socket that is none to listen on")
		}
		out = append(out, describe(l))
	}
	return out, nil
}

// describe finds out who can connect to a listener.
func describe(l net.Listener) *Listener {
	out := &Listener{Listener: l}
	switch at := l.Addr().(type) {
	case *net.TCPAddr:
		out.Loopback = at.IP.IsLoopback()
	case *net.UnixAddr:
		out.Loopback = true
		info, err := os.Lstat(at.Name)
		out.Private = err == nil && info.Mode().Perm()&0o077 == 0
	}
	return out
}

// Listen begins to listen at HOST:PORT or unix:PATH.
func Listen(ctx context.Context, address string) (*Listener, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		return listenUnix(ctx, path)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("%w: %q: say HOST:PORT or unix:PATH", ErrAddress, address)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, inUse(address, err)
	}
	return describe(l), nil
}

// inUse says what to do about an address that another program has.
func inUse(address string, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%s is in use: another program listens there; name another address: %w", address, err)
	}
	return fmt.Errorf("listening on %s: %w", address, err)
}

// dialTime bounds the look whether somebody listens on a socket.
const dialTime = time.Second

// listenUnix makes a Unix socket that only its owner can connect to. A socket that nobody
// listens on any more is replaced.
func listenUnix(ctx context.Context, path string) (*Listener, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: %s has no path", ErrAddress, unixPrefix)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %s exists, and is no socket", ErrAddress, path)
	default:
		d := net.Dialer{Timeout: dialTime}
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, inUse(path, unix.EADDRINUSE)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := unix.Umask(0o177) // from the beginning, the socket is for this user only
	l, err := net.Listen("unix", path)
	unix.Umask(before)
	if err != nil {
		return nil, inUse(path, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // by then, another socket may be in its place
	}
	out := &Listener{Listener: l, Private: true, Loopback: true, path: path}
	if out.made, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return out, nil
}

// Close ends the listening, and removes the socket that was made for it.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	// A socket that was made since may have the same inode, and has another time.
	if now, lerr := os.Lstat(l.path); l.path != "" && lerr == nil && os.SameFile(now, l.made) && now.ModTime().Equal(l.made.ModTime()) {
		_ = os.Remove(l.path)
	}
	return err
}

// IsUnix reports whether it is a Unix socket.
func (l *Listener) IsUnix() bool {
	_, ok := l.Addr().(*net.UnixAddr)
	return ok
}
