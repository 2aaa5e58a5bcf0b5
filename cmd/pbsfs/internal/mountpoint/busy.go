package mountpoint

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
)

// ErrActive says that an action is refused because something is in use.
var ErrActive = errors.New("in use")

// BusyError says which mounts are in use, and by which processes. It matches ErrActive.
type BusyError struct {
	Mounts  []mounts.Mount
	Holders []mounts.Holder
}

// Error has a line for each holder, after the first.
func (e *BusyError) Error() string {
	var points []string
	for _, m := range e.Mounts {
		points = append(points, text.Printable(m.Point))
	}
	are := "is"
	if len(e.Mounts) > 1 {
		are = "are"
	}
	var lines strings.Builder
	seen := make(map[string]bool)
	for _, h := range e.Holders {
		if line := h.String(); !seen[line] {
			seen[line] = true
			lines.WriteString("\n  " + line)
		}
	}
	return fmt.Sprintf("%s %s %v%s", strings.Join(points, ", "), are, ErrActive, lines.String())
}

// Unwrap returns ErrActive.
func (e *BusyError) Unwrap() error { return ErrActive }
