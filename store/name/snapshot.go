package name

import "time"

// timeLayout is how a snapshot directory is named: always UTC.
const timeLayout = "2006-01-02T15:04:05Z"

// Time is the backup time of a snapshot, to the second.
type Time struct {
	sec   int64
	valid bool
}

// ParseTime reads the name of a snapshot directory. Only the name that
// [Time.String] gives for the same instant is accepted: others are aliases
// that the server itself could not find again.
func ParseTime(s string) (Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s {
		return Time{}, invalid("backup time", s, "want YYYY-MM-DDTHH:MM:SSZ")
	}
	return Time{sec: t.Unix(), valid: true}, nil
}

// NewTime returns the backup time of an instant, cut to the second. The year
// must be from 0 to 9999.
func NewTime(t time.Time) (Time, error) {
	return ParseTime(t.UTC().Format(timeLayout))
}

// Unix returns the seconds since the epoch.
func (t Time) Unix() int64 { return t.sec }

// Time returns the instant, in UTC.
func (t Time) Time() time.Time { return time.Unix(t.sec, 0).UTC() }

// String returns the name of the snapshot directory, "" for the zero value.
func (t Time) String() string {
	if !t.valid {
		return ""
	}
	return t.Time().Format(timeLayout)
}

// Snapshot is one backup of a group.
type Snapshot struct {
	group Group
	time  Time
}

// NewSnapshot returns the snapshot of g that was taken at t. Both must be
// valid, that is, made by this package's functions.
func NewSnapshot(g Group, t Time) (Snapshot, error) {
	if g.id == "" {
		return Snapshot{}, invalid("backup group", "", "not a group")
	}
	if !t.valid {
		return Snapshot{}, invalid("backup time", "", "not a time")
	}
	return Snapshot{group: g, time: t}, nil
}

// Group returns the group that s belongs to.
func (s Snapshot) Group() Group { return s.group }

// Time returns the backup time.
func (s Snapshot) Time() Time { return s.time }

// Dir returns the snapshot's directory below the datastore.
func (s Snapshot) Dir() string { return s.group.Dir() + "/" + s.time.String() }

// String is [Snapshot.Dir]; it is also the path below a mount point.
func (s Snapshot) String() string { return s.Dir() }
