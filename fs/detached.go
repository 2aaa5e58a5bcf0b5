package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// A mount that was taken away can live on: after a lazy unmount for programs that have
// something open, in an overlay that shows it, or as a copy in a mount namespace that
// was made before. The kernel ends the connection when the last of these goes away, and
// until then the tree is served.

// fsType is the type of our mounts in the mount table.
const fsType = "fuse." + TypeName

// place is the directory on which a tree is mounted.
type place struct {
	*mounts.HeldPoint
	before mounts.MountTable // what was mounted before
	hands  Hands
}

func openPlace(point string, hands Hands) (*place, error) {
	before, err := mounts.Mounts()
	if err != nil {
		return nil, err
	}
	held, err := mounts.HoldPoint(point)
	if err != nil {
		return nil, err
	}
	return &place{HeldPoint: held, before: before, hands: hands}, nil
}

// find finds the new mount and the mount below it. It is the only new one of its kind
// there: other commands are locked out, or withdraw.
func (p *place) find(source string) (at, under mounts.Mount, err error) {
	table, err := mounts.Mounts()
	if err != nil {
		return at, under, err
	}
	i := slices.IndexFunc(table, func(m mounts.Mount) bool {
		return !slices.Contains(p.before, m) && m.FSType == fsType && m.Point == p.Point && m.Source == source && m.Root == "/"
	})
	if i < 0 {
		return at, under, errors.New("the mount table does not show the mount")
	}
	at = table[i]
	if i = slices.IndexFunc(table, func(m mounts.Mount) bool { return m.ID == at.Parent }); i >= 0 {
		under = table[i]
	}
	return at, under, nil
}

// withdraw removes a mount that may have been made before an error.
func (p *place) withdraw(source string) error {
	defer p.Close()
	at, _, err := p.find(source)
	if err != nil {
		return nil
	}
	return p.hands.Unmount(context.Background(), at, true)
}

// watchPlace closes the directory when no mount of the tree is left there.
func (m *Mount) watchPlace() {
	defer m.place.Close()
	table, err := mounts.WatchMounts()
	if err != nil {
		m.fsys.problems.log.Warn("mount table cannot be watched", "error", err)
		return
	}
	defer func() { _ = table.Close() }()
	for {
		if left, err := m.left(); err == nil && len(left) == 0 {
			m.place.Close()
			m.logUsers()
			return
		}
		select {
		case <-m.ended:
			return
		default:
		}
		// The kernel often reports a change late, and sometimes not at all (seen on
		// Linux 6.18, with a copy of the mount in another namespace).
		if _, err := table.Wait(tablePoll); err != nil {
			m.fsys.problems.log.Warn("mount table cannot be watched", "error", err)
			return
		}
	}
}

// logUsers logs why the process goes on, if it does.
func (m *Mount) logUsers() {
	select {
	case <-m.ended:
	case <-time.After(endPatience):
		m.fsys.problems.log.Info("the mount was taken away; what still uses the tree is served", "open", len(m.Handles()))
	}
}

// tablePoll bounds how late it is noticed that the mount was taken away.
const tablePoll = time.Second

// left returns the mounts of the tree that this process sees, including moved and bound
// ones. The one that was made last comes first.
func (m *Mount) left() ([]mounts.Mount, error) {
	table, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if !m.conn.Lives() { // asked afterwards: the device number was still ours when the table was read
		return nil, nil
	}
	left := slices.DeleteFunc(table.OfDevice(m.at), func(e mounts.Mount) bool { return e.FSType != fsType })
	slices.Reverse(left)
	return left, nil
}
