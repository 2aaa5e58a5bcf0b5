package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/text"
)

// InUse is the refusal of a mode for active operations: it says who has what, the
// processes that are counted and who has files open in our mounts.
type InUse struct {
	Datastore string
	Conflict  *maint.ConflictError
	// Open is who has something open, mount by mount.
	Open []Open
}

// Open is who has something open in one mount.
type Open struct {
	Mountpoint string
	Handles    []Handle
	// Err is why those who have it open could not all be found.
	Err error
}

// Error has a line for each process and each handle, after the first.
func (e *InUse) Error() string {
	var b strings.Builder
	if e.Conflict.Set {
		fmt.Fprintf(&b, "datastore %s is set %s, and stays so; still active are\n", e.Datastore, e.Conflict.Type)
	} else {
		fmt.Fprintf(&b, "datastore %s stays as it is: operations are active that %s would forbid\n", e.Datastore, e.Conflict.Type)
	}
	b.WriteString(ProcessLines(e.Conflict.Processes))
	for _, in := range e.Open {
		if in.Err != nil {
			fmt.Fprintf(&b, "  in %s: %v\n", in.Mountpoint, in.Err)
		}
		for _, h := range in.Handles {
			fmt.Fprintf(&b, "  %s\n", mounts.Holder{PID: h.PID, Name: h.Name, How: h.How, Path: h.Path})
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Unwrap returns the conflict.
func (e *InUse) Unwrap() error { return e.Conflict }

// WithHolders makes a refusal for active operations one that names who holds
// what. Other errors stay as they are.
func WithHolders(ctx context.Context, err error, host hosts.Host, t locate.Target) error {
	var conflict *maint.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	refusal := &InUse{Datastore: t.Name, Conflict: conflict}
	if conflict.Type != cfg.ReadOnly { // which those who read trees are not in the way of
		refusal.Open = openHandles(context.WithoutCancel(ctx), host, t) // an interrupt may be what brought us here
	}
	return refusal
}

// openHandles finds who has something open in our mounts of a datastore, and in
// those that were taken away while they were in use.
func openHandles(ctx context.Context, host hosts.Host, t locate.Target) []Open {
	ours, err := mountpoint.Ours()
	if err != nil {
		return nil
	}
	known, err := served.Records(host)
	if err != nil {
		return nil
	}
	answers := served.AskAll(ctx, slices.DeleteFunc(slices.Clone(known), func(r *served.Record) bool { return !r.Serves(t) }))
	var out []Open
	for _, m := range ours {
		if !served.Shows(host, t, known, m) {
			continue
		}
		holders, err := mounts.Holders(ctx, m.Point)
		r := served.Find(known, m)
		known = slices.DeleteFunc(known, func(k *served.Record) bool { return k == r })
		out = append(out, Open{m.Point, strangers(handlesOf(m.Point, answers[r].Handles, holders)), err})
	}
	for _, r := range known {
		if r.Serves(t) {
			out = append(out, Open{r.Mountpoint, strangers(handlesOf(r.Mountpoint, answers[r].Handles, nil)), nil})
		}
	}
	return out
}

// strangers leaves out who is merely there, with a working directory: that is in
// nobody's way but umount's.
func strangers(handles []Handle) []Handle {
	return slices.DeleteFunc(handles, func(h Handle) bool {
		return h.How == mounts.HowCwd || h.How == mounts.HowRoot || h.How == mounts.HowNested
	})
}

// ProcessLines lists processes with what they have active.
func ProcessLines(procs []maint.ProcessCount) string {
	var b strings.Builder
	for _, p := range procs {
		fmt.Fprintf(&b, "  process %d %s: %d read, %d write\n", p.PID, text.Printable(p.Name), p.Read, p.Write)
	}
	return b.String()
}
