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

// InUse is the refusal of a mode because of active operations. It lists the processes
// that are counted, and the users of files in our mounts.
type InUse struct {
	Datastore string
	Conflict  *maint.ConflictError
	// Open lists the open files, mount by mount.
	Open []Open
}

// Open lists what is open in one mount.
type Open struct {
	Mountpoint string
	Handles    []Handle
	// Err says why not all users of the mount could be found.
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

// WithHolders adds the holders to a refusal because of active operations. Other errors
// stay as they are.
func WithHolders(ctx context.Context, err error, host hosts.Host, t locate.Target) error {
	var conflict *maint.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	refusal := &InUse{Datastore: t.Name, Conflict: conflict}
	if conflict.Type != cfg.ReadOnly { // readers of trees do not stand in the way of read-only
		refusal.Open = openHandles(context.WithoutCancel(ctx), host, t) // an interrupt may have led here
	}
	return refusal
}

// openHandles finds what is open in our mounts of a datastore, including mounts that
// were taken away while they were in use, and what is read without a mount.
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
	if reading, _, err := readersOf(host, t); len(reading) > 0 || err != nil {
		out = append(out, Open{Mountpoint: "pbsfs serve", Handles: reading, Err: err})
	}
	return out
}

// strangers leaves out holders without an open file, such as a process with its working
// directory there: they hinder an umount, and nothing else.
func strangers(handles []Handle) []Handle {
	return slices.DeleteFunc(handles, func(h Handle) bool {
		return h.How == mounts.HowCwd || h.How == mounts.HowRoot || h.How == mounts.HowNested
	})
}

// ProcessLines lists processes with their active operations.
func ProcessLines(procs []maint.ProcessCount) string {
	var b strings.Builder
	for _, p := range procs {
		fmt.Fprintf(&b, "  process %d %s: %d read, %d write\n", p.PID, text.Printable(p.Name), p.Read, p.Write)
	}
	return b.String()
}
