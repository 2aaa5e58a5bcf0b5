package maint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/places"
)

// nameSet are the names under which one datastore is counted.
type nameSet struct {
	names []string
	// sum is the end of the names that were made for the datastore while it was not
	// listed.
	sum string
}

// among returns the names in the set and those in files that were made for the
// datastore.
func (n nameSet) among(files []string) []string {
	out := slices.Clone(n.names)
	for _, f := range files {
		if n.sum != "" && strings.HasSuffix(f, n.sum) && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// namesOf returns the names under which other processes may count a datastore that is
// bound like this.
func namesOf(b modes.Binding, store string) nameSet {
	n := nameSet{names: union([]string{store}, b.Names), sum: modes.UnlistedPattern.FindString(store)}
	if b.Own.ID.Seen() {
		n.sum = "-" + b.Own.ID.Sum()
	}
	return n
}

func (n nameSet) and(names []string) nameSet {
	n.names = union(n.names, names)
	return n
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// tally counts the operations of all processes on a datastore that is given by its
// name. It remembers what it needs for that, so that it can be asked often.
type tally struct {
	host  hosts.Host
	store string
	modes *modes.Source
	also  []string // further names under which the datastore was known
}

func newTally(host hosts.Host, store string) *tally {
	return &tally{host: host, store: store, modes: modes.NewSource(host, store, "", false)}
}

// names returns the names under which the datastore is counted at this moment.
func (t *tally) names(ctx context.Context) (nameSet, error) {
	b, file, err := t.modes.Current(ctx)
	if err == nil && t.locate(ctx, b.Own) {
		b, file, err = t.modes.Current(ctx)
	}
	if err != nil {
		return nameSet{}, fmt.Errorf("read %s: %w", file, err)
	}
	return namesOf(b, t.store).and(t.also), nil
}

// locate finds a datastore on a disk that is mounted elsewhere than configured, and
// reports whether its place is new. Trees of the datastore may be counted under the
// name that belongs to that place.
func (t *tally) locate(ctx context.Context, own places.Spot) bool {
	if own.ID.Seen() || own.ID.UUID == "" || t.modes.Path != "" {
		return false
	}
	dir, ok := t.host.Places().OnDisk(ctx, own.ID)
	if ok {
		t.modes.Path = dir
	}
	return ok
}

// conflicting returns the processes that have operations which a mode would forbid.
func (t *tally) conflicting(ctx context.Context, mode cfg.ModeType) ([]ProcessCount, error) {
	names, err := t.names(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the operations on datastore %s: %w", t.store, err)
	}
	return t.conflictingUnder(names, mode)
}

// conflictingUnder is conflicting for names that are already known. It may be called
// under a lock.
func (t *tally) conflictingUnder(names nameSet, mode cfg.ModeType) ([]ProcessCount, error) {
	counted, err := countUnder(t.host, names)
	if err != nil {
		return nil, fmt.Errorf("count the operations on datastore %s: %w", t.store, err)
	}
	m := cfg.Mode{Type: mode}
	return slices.DeleteFunc(counted.Processes, func(p ProcessCount) bool {
		return (p.Read == 0 || m.Allows(cfg.Read)) && (p.Write == 0 || m.Allows(cfg.Write))
	}), nil
}

// waitQuiet returns when another attempt seems worthwhile. It holds no lock while it
// waits.
func (t *tally) waitQuiet(ctx context.Context, mode cfg.ModeType, deadline time.Time) error {
	tick := time.NewTicker(conflictPoll)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if procs, err := t.conflicting(ctx, mode); err != nil || len(procs) == 0 {
			return err
		}
	}
	return nil
}

// merged makes one entry of the entries that a process has under several names of one
// datastore. A process counts the same under all names as soon as it knows them.
func merged(entries []opsfile.Entry) []opsfile.Entry {
	var out []opsfile.Entry
	for _, e := range entries {
		i := slices.IndexFunc(out, func(o opsfile.Entry) bool { return o.PID == e.PID && o.StartTime == e.StartTime })
		if i < 0 {
			out = append(out, e)
			continue
		}
		out[i].Counts = out[i].Counts.Max(e.Counts)
	}
	return out
}

// mergedCounts does the same for what was counted of users.
func mergedCounts(procs []ProcessCount) []ProcessCount {
	var out []ProcessCount
	for _, p := range procs {
		i := slices.IndexFunc(out, func(o ProcessCount) bool {
			return o.PID == p.PID && o.StartTime == p.StartTime && o.Elsewhere == p.Elsewhere
		})
		if i < 0 {
			out = append(out, p)
			continue
		}
		out[i].Read, out[i].Write = max(out[i].Read, p.Read), max(out[i].Write, p.Write)
	}
	return out
}
