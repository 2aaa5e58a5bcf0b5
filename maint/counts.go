package maint

import (
	"fmt"
	"path/filepath"
	"slices"
)

// ProcessCount is what one process does with a datastore.
type ProcessCount struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	Name      string `json:"name"`
	Read      int64  `json:"read"`
	Write     int64  `json:"write"`
	// Elsewhere: the pid is that of another pid namespace.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// elsewhereName is for a process that cannot be seen.
const elsewhereName = "(in another pid namespace)"

// Tally is what is counted on a datastore, and what of other users' files could not
// be believed.
type Tally struct {
	Processes []ProcessCount
	Problems  []error
}

// Count finds the live processes that have operations on a datastore: PBS's
// daemons, those in other pid namespaces, and, for root on a host without PBS,
// those of all users. What users have in their directories keeps nobody from
// counting.
func Count(host Host, store string) (Tally, error) {
	if len(host.configs) == 0 {
		return Tally{}, errNoHost
	}
	if err := checkStore(store); err != nil {
		return Tally{}, err
	}
	names, err := countedAs(host, store)
	if err != nil {
		return Tally{}, err
	}
	var t Tally
	if err := t.addOwn(host, names); err != nil {
		return Tally{}, err
	}
	users := userTallies(host.usersDirs(), names)
	t.Processes = append(t.Processes, users.Processes...)
	t.Problems = users.Problems
	return t, nil
}

// Processes lists the live processes that have operations on a datastore, as
// [Count] finds them.
func Processes(host Host, store string) ([]ProcessCount, error) {
	t, err := Count(host, store)
	return t.Processes, err
}

// addOwn adds what the run directory has, our own file and those of guests.
func (t *Tally) addOwn(host Host, names []string) error {
	claim, err := claimRun(host)
	if err != nil {
		return err
	}
	defer claim.release()
	for _, name := range names {
		entries, err := readOperations(host.OperationsFile(name))
		if err != nil {
			return err
		}
		t.add(entries, claim.home)
	}
	for _, dir := range guestDirs(host.runDir) {
		for _, name := range names {
			entries, err := readOperations(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			t.add(seenFromHere(dir, entries), false)
		}
	}
	return nil
}

// add adds entries. Where their pids are not those of this namespace, all count:
// what cannot be seen is not taken for dead.
func (t *Tally) add(entries []opsEntry, home bool) {
	for _, e := range entries {
		sight := Unseen
		if home || e.here {
			sight = e.look()
		}
		if e.counts.Total() == 0 || sight == Ended {
			continue
		}
		p := ProcessCount{
			PID: int(e.pid), StartTime: e.starttime, Read: e.counts.Read, Write: e.counts.Write,
			Elsewhere: !home && !e.here, Name: elsewhereName,
		}
		if !p.Elsewhere {
			p.Name = processName(p.PID)
		}
		t.Processes = append(t.Processes, p)
	}
}

// seenFromHere gives the entries of a guest the pid that it has here, if it has one:
// it is the process that holds the guest's lock.
func seenFromHere(dir string, entries []opsEntry) []opsEntry {
	p := lockHolder(filepath.Join(dir, aliveName))
	if p.PID == 0 || p.StartTime == 0 {
		return entries
	}
	for i := range entries {
		entries[i].pid, entries[i].starttime, entries[i].here = uint32(p.PID), p.StartTime, true
	}
	return entries
}

// Sum is what all live processes together do with a datastore.
func Sum(host Host, store string) (Counts, error) {
	procs, err := Processes(host, store)
	var sum Counts
	for _, p := range procs {
		sum = sum.and(Counts{Read: p.Read, Write: p.Write})
	}
	return sum, err
}

// conflicting are the processes whose operations a mode would forbid.
func conflicting(host Host, store string, mode ModeType) ([]ProcessCount, error) {
	procs, err := Processes(host, store)
	if err != nil {
		return nil, fmt.Errorf("count the operations on datastore %s: %w", store, err)
	}
	m := Mode{Type: mode}
	return slices.DeleteFunc(procs, func(p ProcessCount) bool {
		return (p.Read == 0 || m.allows(Read)) && (p.Write == 0 || m.allows(Write))
	}), nil
}
