package maint

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
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

// elsewhereName and hiddenName stand for the names of processes that cannot be seen.
const (
	elsewhereName = "(in another pid namespace)"
	hiddenName    = "(hidden)"
)

// Tally is what is counted on a datastore, and which files of other users could not be
// believed.
type Tally struct {
	Processes []ProcessCount
	Problems  []error
}

// Count finds the live processes that have operations on a datastore: PBS's daemons,
// processes in other pid namespaces, and, for root on a host without PBS, those of all
// users. Nothing in a user's directory can make Count fail. also lists further names
// under which the datastore may still be counted.
func Count(host hosts.Host, store string, also ...string) (Tally, error) {
	if len(host.Configs()) == 0 {
		return Tally{}, hosts.ErrZero
	}
	if err := hosts.CheckStore(store); err != nil {
		return Tally{}, err
	}
	counted := newTally(host, store)
	counted.also = also
	names, err := counted.names(context.Background())
	if err != nil {
		return Tally{}, err
	}
	return countUnder(host, names)
}

// countUnder counts what is published under the names of one datastore.
func countUnder(host hosts.Host, names nameSet) (Tally, error) {
	var t Tally
	if err := t.addOwn(host, names); err != nil {
		return Tally{}, err
	}
	users := userTallies(usersDirs(host), names)
	t.Processes = append(t.Processes, users.Processes...)
	t.Problems = users.Problems
	return t, nil
}

// Processes lists the live processes that have operations on a datastore, as
// [Count] finds them.
func Processes(host hosts.Host, store string, also ...string) ([]ProcessCount, error) {
	t, err := Count(host, store, also...)
	return t.Processes, err
}

// addOwn adds what the run directory counts: our own file and the files of guests.
func (t *Tally) addOwn(host hosts.Host, names nameSet) error {
	claim, err := claimRun(host)
	if err != nil {
		return err
	}
	defer claim.release()
	here, err := readUnder(host.OperationsDir(), names)
	if err != nil {
		return err
	}
	t.add(merged(here), claim.home)
	for _, dir := range guestDirs(host.RunDir()) {
		entries, err := readUnder(dir, names)
		if err != nil {
			return err
		}
		t.add(seenFromHere(dir, merged(entries)), false)
	}
	return nil
}

// readUnder reads all files in a directory that belong to one datastore.
func readUnder(dir string, names nameSet) ([]opsfile.Entry, error) {
	var all []opsfile.Entry
	for _, name := range names.among(procfs.NamesIn(dir)) {
		entries, err := opsfile.Read(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// add adds entries. If their pids are not those of this namespace, all of them count: a
// process that cannot be seen is not taken for dead.
func (t *Tally) add(entries []opsfile.Entry, home bool) {
	for _, e := range entries {
		sight := procfs.Unseen
		if home || e.Here {
			sight = e.Look()
		}
		if e.Counts.Total() == 0 || sight == procfs.Ended {
			continue
		}
		p := ProcessCount{
			PID: int(e.PID), StartTime: e.StartTime, Read: e.Counts.Read, Write: e.Counts.Write,
			Elsewhere: !home && !e.Here, Name: elsewhereName,
		}
		if !p.Elsewhere {
			p.Name = cmp.Or(procfs.ProcessName(p.PID), hiddenName)
		}
		t.Processes = append(t.Processes, p)
	}
}

// seenFromHere gives the entries of a guest the guest's pid in this namespace, if it
// has one: the pid of the process that holds the guest's lock.
func seenFromHere(dir string, entries []opsfile.Entry) []opsfile.Entry {
	p := statefile.LockHolder(filepath.Join(dir, aliveName))
	if p.PID == 0 || p.StartTime == 0 {
		return entries
	}
	for i := range entries {
		entries[i].PID, entries[i].StartTime, entries[i].Here = uint32(p.PID), p.StartTime, true
	}
	return entries
}

// Sum is what all live processes together do with a datastore.
func Sum(host hosts.Host, store string) (opsfile.Counts, error) {
	procs, err := Processes(host, store)
	var sum opsfile.Counts
	for _, p := range procs {
		sum = sum.And(opsfile.Counts{Read: p.Read, Write: p.Write})
	}
	return sum, err
}
