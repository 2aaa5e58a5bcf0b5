package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/pbsfs/pbsfs/store"
)

// ErrIncomplete matches the error of a listing that is not complete: an entry could not
// be read, or even its name is not known.
var ErrIncomplete = errors.New("listing is not complete")

// Visit calls fn for each entry of a directory that has a name, in the order of its
// [Listing]. An incomplete listing never looks complete: damaged entries are visited,
// with Err set, and after the last entry Visit returns an error that matches
// [ErrIncomplete] and wraps the causes. An error of fn ends the visit and is returned
// as it is.
func Visit(ctx context.Context, right store.CanRead, n *Node, fn func(Entry) error) error {
	l, err := n.List(ctx, right)
	if err != nil {
		return err
	}
	damage := l.Err()
	for i := range l.Len() {
		e, err := l.At(ctx, right, i)
		if err != nil {
			return err
		}
		if e.Err != nil && damage == nil {
			damage = e.Err
		}
		if e.Name == "" {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if damage != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, damage)
	}
	return nil
}
