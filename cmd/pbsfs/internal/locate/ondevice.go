package locate

import (
	"context"
	"fmt"
	"time"

	"github.com/pbsfs/pbsfs/maint/device"
)

// lookTimeout bounds the look into one device, which may hang.
const lookTimeout = 10 * time.Second

// DatastoresOn looks for datastores on a device, for a limited time: the device may
// hang, and every process that waits for it would hang with it.
func DatastoresOn(ctx context.Context, d device.Device) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	type answer struct {
		found []string
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		found, err := device.DatastoresOn(ctx, d)
		answers <- answer{found, err}
	}()
	select {
	case got := <-answers:
		return got.found, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s does not answer: %w", d.Path, context.Cause(ctx))
	}
}
