package opsfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// maxOperations bounds how much of an operations file is read.
const maxOperations = 16 << 20

// Entry is one process's entry in an operations file, see reference
// "operations-and-maintenance", section 1. raw is the entry as it stands in the file,
// with any further fields.
type Entry struct {
	PID       uint32
	StartTime uint64
	Counts    Counts
	Raw       json.RawMessage
	Here      bool // pid and starttime are known to be of this namespace
}

// opsJSON is the format. Pointers tell a missing value from zero.
type opsJSON struct {
	PID       *uint32     `json:"pid"`
	StartTime *uint64     `json:"starttime"`
	Active    *opsActives `json:"active_operations"`
}

type opsActives struct {
	Read  *int64 `json:"read"`
	Write *int64 `json:"write"`
}

func newEntry(p procfs.Process, c Counts) Entry {
	e := Entry{PID: uint32(p.PID), StartTime: p.StartTime, Counts: c}
	raw, err := json.Marshal(opsJSON{&e.PID, &e.StartTime, &opsActives{&c.Read, &c.Write}})
	if err != nil {
		panic(err) // cannot fail: there are only numbers
	}
	e.Raw = raw
	return e
}

// Is reports whether the entry belongs to exactly this process.
func (e Entry) Is(p procfs.Process) bool {
	return int64(e.PID) == int64(p.PID) && e.StartTime == p.StartTime
}

// Look reports whether the process of the entry runs. Its pid must have the same
// meaning here as in the file.
func (e Entry) Look() procfs.Sight { return procfs.LookAt(int(e.PID), e.StartTime) }

// Decode reads an operations file. Any text that PBS would not write is an error: a
// count that cannot be understood is not zero.
func Decode(data []byte) ([]Entry, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil {
		return nil, err
	}
	if raws == nil {
		return nil, errors.New("not a list")
	}
	entries := make([]Entry, 0, len(raws))
	for i, raw := range raws {
		e, err := decodeEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func decodeEntry(raw json.RawMessage) (Entry, error) {
	var v opsJSON
	if err := json.Unmarshal(raw, &v); err != nil {
		return Entry{}, err
	}
	a := v.Active
	if v.PID == nil || v.StartTime == nil || a == nil || a.Read == nil || a.Write == nil {
		return Entry{}, errors.New("pid, starttime or active_operations is missing")
	}
	if *v.PID > math.MaxInt32 {
		return Entry{}, fmt.Errorf("pid %d", *v.PID)
	}
	// A negative count is a bug in its writer; it must not hide other counts.
	counts := Counts{Read: max(*a.Read, 0), Write: max(*a.Write, 0)}
	return Entry{PID: *v.PID, StartTime: *v.StartTime, Counts: counts, Raw: raw}, nil
}

// Encode writes the file. Each entry stays as it was.
func Encode(entries []Entry) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.Raw)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// Read reads an operations file; one that is missing or has lost all of its text
// has no entries: what it had, the processes themselves have to write again.
func Read(path string) ([]Entry, error) {
	data, err := statefile.ReadLimited(path, maxOperations)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read operations file: %w", err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	entries, err := Decode(data)
	if err != nil {
		return nil, &GarbledError{File: path, Err: err}
	}
	return entries, nil
}

// ErrGarbled is found in a [*GarbledError].
var ErrGarbled = errors.New("operations file is garbled")

// GarbledError says that an operations file cannot be understood. The file is left as
// it is, because it may hold the counts of others.
type GarbledError struct {
	File string
	Err  error
}

// Error names the file and a safe way to repair it.
func (e *GarbledError) Error() string {
	return fmt.Sprintf("operations file %s is garbled (%v): what cannot be counted is not done; "+
		"once nothing uses this datastore (no mount, no task, PBS's services stopped), remove the file", e.File, e.Err)
}

// Unwrap returns what is wrong in the file.
func (e *GarbledError) Unwrap() error { return e.Err }

// Is matches ErrGarbled.
func (e *GarbledError) Is(target error) bool { return target == ErrGarbled }

// Update returns the list with our changes. As when PBS updates it, the entries of dead
// processes are removed. The entries of all other processes stay as they are. PBS's
// daemons that are not listed are added before our entry. Our entry is removed if it
// counts zero.
//
// The daemons are listed because a PBS before 4.0.21 adds a process that is not yet
// listed only to an empty list: our entry alone would keep its readers and writers from
// being counted.
func Update(entries []Entry, me procfs.Process, counts Counts, daemons []procfs.Process) []Entry {
	var out []Entry
	mine := -1
	for _, e := range entries {
		switch {
		case e.Is(me):
			if mine < 0 {
				mine = len(out)
				out = append(out, e)
			}
		case int64(e.PID) != int64(me.PID) && e.Look() != procfs.Ended:
			out = append(out, e)
		}
	}
	if counts.Total() == 0 {
		if mine >= 0 {
			out = append(out[:mine], out[mine+1:]...)
		}
		return out
	}
	if mine >= 0 {
		out[mine] = newEntry(me, counts)
	}
	for _, d := range daemons {
		if d.PID != me.PID && !listed(out, d) {
			out = append(out, newEntry(d, Counts{}))
		}
	}
	if mine < 0 {
		out = append(out, newEntry(me, counts))
	}
	return out
}

func listed(entries []Entry, p procfs.Process) bool {
	for _, e := range entries {
		if e.Is(p) {
			return true
		}
	}
	return false
}
