package fs

import (
	"time"

	"github.com/pbsfs/pbsfs/maint"
)

// A mount that was taken away can live on: lazily unmounted, for those who have
// something open, or as a copy in a mount namespace that somebody made before.
// The kernel ends it when the last of them goes; a copy that nobody uses could
// keep the serving process for ever. So the mount counts as ended when it is no
// longer in the mount table of this process and no handle is open.

// watchDetached ends m when it was taken away and nothing is open in it.
func (m *Mount) watchDetached() {
	table, err := maint.WatchMounts()
	if err != nil {
		m.fsys.problems.log.Warn("mount table cannot be watched", "error", err)
		return
	}
	defer func() { _ = table.Close() }()
	looks := tableLooks
	for gone := false; ; {
		gone = gone || looks > 0 && !m.inTable()
		if gone && len(m.Handles()) == 0 {
			m.end()
			return
		}
		select {
		case <-m.ended:
			return
		default:
		}
		wait := tableIdle
		if gone || looks > 0 {
			wait = tablePoll
		}
		changed, err := table.Wait(wait)
		looks--
		if changed || err != nil {
			looks = tableLooks
		}
	}
}

const (
	// tablePoll is how often a mount that was taken away is looked at.
	tablePoll = 250 * time.Millisecond
	// tableIdle is how long nothing happens otherwise. The end of the mount
	// changes the table, too.
	tableIdle = time.Minute
)

// tableLooks is how many times the table is read after it has changed: the news
// can come before the change can be read.
const tableLooks = 4

// inTable reports whether the mount table shows the mount. A table that cannot
// be read shows everything.
func (m *Mount) inTable() bool {
	all, err := maint.Mounts()
	if err != nil {
		return true
	}
	for _, e := range all {
		if e.FSType == "fuse."+TypeName && e.Major == m.major && e.Minor == m.minor {
			return true
		}
	}
	return false
}

// locate remembers the device number of the mount, by which it is found again.
func (m *Mount) locate() error {
	e, err := maint.FindMount(m.where)
	if err != nil {
		return err
	}
	m.major, m.minor = e.Major, e.Minor
	return nil
}
