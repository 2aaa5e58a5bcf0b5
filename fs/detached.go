package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pbsfs/pbsfs/maint/mounts"
)

// A mount that was taken away can live on: lazily unmounted, for those who have
// something open, in an overlay that shows it, or as a copy in a mount namespace
// that somebody made before. The kernel ends the connection when the last of them
// goes, and until then the tree is served.

// fsType is the type of our mounts in the mount table.
const fsType = "fuse." + TypeName

// place is the directory that a tree is mounted on.
type place struct {
	*mounts.HeldPoint
	before      mounts.MountTable // what was mounted before
	connections map[int]bool      // that this process had before
}

func openPlace(point string) (*place, error) {
	before, err := mounts.Mounts()
	if err != nil {
		return nil, err
	}
	held, err := mounts.HoldPoint(point)
	if err != nil {
		return nil, err
	}
	connections, err := mounts.Connections()
	if err != nil {
		held.Close()
		return nil, err
	}
	return &place{HeldPoint: held, before: before, connections: connections}, nil
}

// find finds the mount that was made, and what it lies upon. It is the only new
// one of its kind there: others are locked out, or withdraw.
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

// withdraw takes away what may have been mounted before something went wrong.
func (p *place) withdraw(source string) error {
	defer p.Close()
	at, _, err := p.find(source)
	if err != nil {
		return nil
	}
	return Unmount(context.Background(), at, true)
}

// watchPlace gives up the directory when nothing of the mount is left there.
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
		// The kernel's news is often late and at times does not come (seen on
		// Linux 6.18, with a copy of the mount in another namespace).
		if _, err := table.Wait(tablePoll); err != nil {
			m.fsys.problems.log.Warn("mount table cannot be watched", "error", err)
			return
		}
	}
}

// logUsers says why the process goes on, where it does.
func (m *Mount) logUsers() {
	select {
	case <-m.ended:
	case <-time.After(endPatience):
		m.fsys.problems.log.Info("the mount was taken away; what still uses the tree is served", "open", len(m.Handles()))
	}
}

// tablePoll bounds how long it goes unnoticed that the mount was taken away.
const tablePoll = time.Second

// left returns the mounts of the tree that this process sees, the last made
// first: wherever they were moved, and those that somebody has bound.
func (m *Mount) left() ([]mounts.Mount, error) {
	table, err := mounts.Mounts()
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if !m.conn.Lives() { // afterwards: then its device number was ours
		return nil, nil
	}
	left := slices.DeleteFunc(table.OfDevice(m.at), func(e mounts.Mount) bool { return e.FSType != fsType })
	slices.Reverse(left)
	return left, nil
}
