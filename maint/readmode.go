package maint

import (
	"context"
	"fmt"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// ReadMode is the mode of a datastore at this moment, from every datastore.cfg
// that binds us: the strictest of all its entries. One that is not listed has
// none.
func ReadMode(host Host, store string) (cfg.Mode, error) {
	if len(host.Configs()) == 0 {
		return cfg.Mode{}, errNoHost
	}
	b, file, err := newTally(host, store).modes.current(context.Background())
	if err != nil {
		return cfg.Mode{}, fmt.Errorf("read the maintenance mode of datastore %s from %s: %w", store, file, err)
	}
	return b.mode, nil
}
