package status

import (
	"context"
	"fmt"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
)

// addUnrecorded adds mounts that have no record here: mounts that were bound in another
// place, mounts whose process has left its record in another run directory, and dead
// mounts.
func (s *Store) addUnrecorded(ctx context.Context, host hosts.Host, of locate.Target, known []*served.Record) error {
	ours, err := mountpoint.Ours()
	if err != nil {
		return err
	}
	var unknown []mounts.Mount
	for _, m := range ours {
		if !served.Shows(host, of, known, m) {
			continue
		}
		r := served.Find(known, m)
		if r == nil {
			unknown = append(unknown, m)
		} else if r.Mountpoint != m.Point {
			s.Mounts = append(s.Mounts, Mount{Mountpoint: m.Point, PID: r.PID, Since: &r.Since, Untracked: r.Untracked, Salvage: r.Salvage})
		}
	}
	for _, t := range served.Trees(ctx, unknown, nil) {
		m := Mount{Mountpoint: t.Point, Elsewhere: !t.Dead}
		if t.Server != nil {
			m.PID = t.Server.PID
		}
		s.Mounts = append(s.Mounts, m)
		if t.Dead {
			s.Problems = append(s.Problems, served.Problem{Time: time.Now(), Text: fmt.Sprintf("the mount on %q is dead: its process has ended; 'pbsfs unmount' takes it away", t.Point)})
		}
	}
	return nil
}
