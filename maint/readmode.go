package maint

import (
	"context"
	"fmt"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
)

// ReadMode returns the mode of a datastore at this moment: the strictest mode of all
// its entries in every datastore.cfg that binds us. A datastore that is not listed has
// no mode.
func ReadMode(host hosts.Host, store string) (cfg.Mode, error) {
	if len(host.Configs()) == 0 {
		return cfg.Mode{}, hosts.ErrZero
	}
	b, file, err := newTally(host, store).modes.Current(context.Background())
	if err != nil {
		return cfg.Mode{}, fmt.Errorf("read the maintenance mode of datastore %s from %s: %w", store, file, err)
	}
	return b.Mode, nil
}
