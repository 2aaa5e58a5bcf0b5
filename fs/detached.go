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
	for gone := false; ; {
		gone = gone || !m.inTable()
		if gone && len(m.Handles()) == 0 {
			m.end()
			return
		}
		select {
		case <-m.ended:
			return
		default:
		}
		// The kernel's news is often late and at times does not come (seen on
		// Linux 6.18, with a copy of the mount in another namespace).
		if _, err := table.Wait(tablePoll); err != nil {
			m.fsys.problems.log.Warn("mount table cannot be watched", "error", err)
			return
		}
	}
}

// tablePoll bounds how long it goes unnoticed that the mount was taken away.
const tablePoll = time.Second

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
