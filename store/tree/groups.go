package tree

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

// Groups calls fn for each backup group at or below n: those of a namespace in the order
// of its listing, then those of its child namespaces. For a group, and for what lies in
// one, it calls fn with that group alone. What cannot be listed is left out, and in the
// end Groups returns an error that matches [ErrIncomplete]. An error of fn ends the visit
// and is returned as it is.
func Groups(ctx context.Context, right store.CanRead, n *Node, fn func(name.Group) error) error {
	v := groupVisit{ctx: ctx, right: right, fn: fn}
	var err error
	switch b := n.body.(type) {
	case *namespace:
		err = v.namespace(b.ns)
	case *namespaces:
		err = v.children(b.ns)
	case *backupType:
		err = v.groups(b.ns, b.typ)
	case *group:
		err = fn(b.g)
	case *groupText:
		err = fn(b.g)
	case *broken:
		return b.err
	default:
		s, ok := n.Snapshot()
		if !ok {
			return unix.ENOTDIR // the link to the newest snapshot
		}
		err = fn(s.Group())
	}
	if err == nil && v.damage != nil {
		err = fmt.Errorf("%w: %w", ErrIncomplete, v.damage)
	}
	return err
}

// Snapshots calls fn for each finished snapshot at or below n, group by group as [Groups]
// does, oldest first. For a snapshot, and for what lies in one, it calls fn with that
// snapshot alone.
func Snapshots(ctx context.Context, right store.CanRead, n *Node, fn func(name.Snapshot) error) error {
	if s, ok := n.Snapshot(); ok {
		return fn(s)
	}
	var damage error
	err := Groups(ctx, right, n, func(g name.Group) error {
		all, err := store.Snapshots(ctx, right, g)
		damage = errors.Join(damage, err)
		for _, s := range all {
			if err := fn(s); err != nil {
				return err
			}
		}
		return nil
	})
	if damage != nil && (err == nil || errors.Is(err, ErrIncomplete)) {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrIncomplete, damage))
	}
	return err
}

// groupVisit is one call of [Groups].
type groupVisit struct {
	ctx    context.Context
	right  store.CanRead
	fn     func(name.Group) error
	damage error // the first listing that failed
}

// listed keeps what is wrong with a listing.
func (v *groupVisit) listed(err error) {
	if v.damage == nil {
		v.damage = err
	}
}

func (v *groupVisit) namespace(ns name.Namespace) error {
	types, err := store.Types(v.ctx, v.right, ns)
	v.listed(err)
	for _, t := range types {
		if err := v.groups(ns, t); err != nil {
			return err
		}
	}
	return v.children(ns)
}

func (v *groupVisit) children(ns name.Namespace) error {
	all, err := store.Namespaces(v.ctx, v.right, ns)
	v.listed(err)
	for _, child := range all {
		if err := v.namespace(child); err != nil {
			return err
		}
	}
	return nil
}

func (v *groupVisit) groups(ns name.Namespace, t name.Type) error {
	all, err := store.Groups(v.ctx, v.right, ns, t)
	v.listed(err)
	for _, g := range all {
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		if err := v.fn(g); err != nil {
			return err
		}
	}
	return nil
}
