package maint

import (
	"fmt"
	"path/filepath"
)

// ProcessCount is what one process does with a datastore.
type ProcessCount struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"starttime"`
	Name      string `json:"name"`
	Read      int64  `json:"read"`
	Write     int64  `json:"write"`
}

// Processes lists the live processes that have operations on a datastore, PBS's
// daemons and, for root on a host without PBS, those of all users included.
func Processes(host Host, store string) ([]ProcessCount, error) {
	if len(host.configs) == 0 {
		return nil, errNoHost
	}
	if err := checkStore(store); err != nil {
		return nil, err
	}
	names, err := countedAs(host, store)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range names {
		files = append(files, operationsFiles(host, name)...)
	}
	var procs []ProcessCount
	for _, file := range files {
		entries, err := readOperations(file)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.counts.Total() == 0 || !e.alive() {
				continue
			}
			procs = append(procs, ProcessCount{
				PID: int(e.pid), StartTime: e.starttime, Name: processName(int(e.pid)),
				Read: e.counts.Read, Write: e.counts.Write,
			})
		}
	}
	return procs, nil
}

// operationsFiles are those that count for us.
func operationsFiles(host Host, store string) []string {
	files := []string{host.OperationsFile(store)}
	for _, dir := range host.UsersRunDirs() {
		files = append(files, filepath.Join(dir, "active-operations", store))
	}
	return files
}

// Sum is what all live processes together do with a datastore.
func Sum(host Host, store string) (Counts, error) {
	procs, err := Processes(host, store)
	var sum Counts
	for _, p := range procs {
		sum.Read += p.Read
		sum.Write += p.Write
	}
	return sum, err
}

// conflicting are the processes whose operations a mode would forbid.
func conflicting(host Host, store string, mode ModeType) ([]ProcessCount, error) {
	procs, err := Processes(host, store)
	if err != nil {
		return nil, fmt.Errorf("count the operations on datastore %s: %w", store, err)
	}
	var found []ProcessCount
	m := Mode{Type: mode}
	for _, p := range procs {
		if p.Read > 0 && !m.allows(Read) || p.Write > 0 && !m.allows(Write) {
			found = append(found, p)
		}
	}
	return found, nil
}
