package modes

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/places"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// Binding is what all datastore.cfg together say of one datastore, whatever it is
// called in them.
type Binding struct {
	Mode cfg.Mode
	// Stated is the mode of the entry that it was asked for by.
	Stated cfg.Mode
	// Names are the entries that are the datastore.
	Names []string
	// Own is where it is, as far as it was seen.
	Own places.Spot
	// Unsure are entries whose places do not answer: whether they are the
	// datastore, nobody can say.
	Unsure []string
}

// counted are the names that operations are published under: those of all its
// entries, or where there is none, the one of those that are not listed.
func (b Binding) counted(store string) []string {
	if len(b.Names) > 0 {
		return b.Names
	}
	return []string{unlistedName(b.Own, store)}
}

// entriesOf lists the sections for datastores in all files.
func entriesOf(host hosts.Host, files []Reading) []cfg.Datastore {
	var out []cfg.Datastore
	for i, f := range files {
		for _, s := range f.Config.Sections {
			if s.Kind == cfg.SectionType {
				out = append(out, f.Config.Datastore(s, host.Configs()[i].File()))
			}
		}
	}
	return out
}

// look looks at the datastore, and at the places of all entries.
func (m *Source) look(ctx context.Context, files []Reading) {
	list := entriesOf(m.host, files)
	m.mu.Lock()
	quiet := m.last.Mode.Type == cfg.Unmount && m.own.ID.Seen()
	m.mu.Unlock()
	if m.Path == "" || quiet {
		m.host.Places().LookFor(ctx, list)
		return
	}
	m.host.Places().LookFor(ctx, list, m.Path)
}

// seen reports whether all places were looked at that [modeSource.look] looks at.
func (m *Source) seen(files []Reading) bool {
	p := m.host.Places()
	for _, e := range entriesOf(m.host, files) {
		if e.Path == "" || places.Untouchable(e) && (e.Removable() || p.LookedAt(e.Dir())) {
			continue
		}
		if _, _, ok := p.At(e.Dir()); !ok {
			return false
		}
	}
	return true
}

// bind finds the entries that are the datastore, and the strictest of their modes.
func (m *Source) bind(files []Reading, epoch uint64) Binding {
	entries := entriesOf(m.host, files)
	own := m.whereabouts(entries)
	b := Binding{Own: own}
	for i, f := range files {
		if f.Config.Problem != "" {
			b.Mode = Stricter(b.Mode, cfg.Mode{Type: cfg.Unknown, Problem: m.host.Configs()[i].File() + ": " + f.Config.Problem})
		}
	}
	for _, e := range entries {
		at, err, _ := m.host.Places().Of(e)
		hangs := isHung(err)
		if hangs && e.Name != m.store {
			b.Unsure = append(b.Unsure, e.Name)
		}
		if !m.isOwn(e, own, at, hangs) {
			continue
		}
		b.Names = append(b.Names, e.Name)
		if e.Name == m.store {
			b.Stated = Stricter(b.Stated, e.Mode)
		}
		mode := e.Mode
		if e.Name != m.store && mode.Type != cfg.None {
			mode.Via = e.Name
		}
		b.Mode = Stricter(b.Mode, mode)
	}
	slices.Sort(b.Names)
	b.Names = slices.Compact(b.Names)
	m.mu.Lock()
	defer m.mu.Unlock()
	b.Mode = m.unlessGone(b, files)
	m.own, m.last, m.epoch, m.valid = own, b, epoch, settled(files)
	return b
}

func settled(files []Reading) bool {
	return !slices.ContainsFunc(files, func(f Reading) bool { return !f.settled })
}

// isOwn reports whether an entry is the datastore: one of the same name unless it is
// known to be another one, and one of another name if it is known to be this one.
func (m *Source) isOwn(e cfg.Datastore, own, at places.Spot, hangs bool) bool {
	if e.Name == m.store {
		return !own.ID.Differs(at.ID)
	}
	return own.ID.Same(at.ID) || (hangs || !own.ID.Seen() && !at.ID.Seen()) && own.Dir != "" && own.Dir == at.Dir
}

// whereabouts is where the datastore is, or was when it was last seen.
func (m *Source) whereabouts(entries []cfg.Datastore) places.Spot {
	path := m.Path
	if path == "" {
		i := slices.IndexFunc(entries, func(e cfg.Datastore) bool { return e.Name == m.store })
		if i < 0 {
			return places.Spot{}
		}
		at, _, _ := m.host.Places().Of(entries[i])
		return at
	}
	m.mu.Lock()
	own := m.own
	m.mu.Unlock()
	at, err, _ := m.host.Places().At(path)
	switch {
	case err == nil && at.ID.Seen() && !anotherDisk(own, at):
		at.ID.UUID = cmp.Or(at.ID.UUID, sameDisk(own, at))
		return at
	case !own.ID.IsZero():
		own.ID = places.Present(own.ID)
		return own // where it was
	}
	return at
}

// anotherDisk says that another disk is in the place of the one that was there, which
// nobody reads.
func anotherDisk(before, now places.Spot) bool {
	return before.ID.UUID != "" && now.ID.UUID != "" && !strings.EqualFold(before.ID.UUID, now.ID.UUID)
}

// sameDisk is the UUID that was known of where the datastore was before, if it
// still is there.
func sameDisk(before, now places.Spot) string {
	if before.ID.Dev == now.ID.Dev && before.ID.Ino == now.ID.Ino {
		return before.ID.UUID
	}
	return ""
}

// unlessGone refuses what is new on a datastore that was configured and no longer
// is: nobody would count it, and an offline would end by itself. Called with mu
// held.
func (m *Source) unlessGone(b Binding, files []Reading) cfg.Mode {
	hidden := slices.ContainsFunc(files, func(f Reading) bool { return f.hidden })
	switch {
	case len(b.Names) > 0:
		m.listed = true
	case m.Path != "" && m.listed && !hidden && b.Mode.Type == cfg.None:
		return cfg.Mode{Type: cfg.Unlisted}
	}
	return b.Mode
}

// isHung says that nobody knows what is at a place.
func isHung(err error) bool {
	return errors.Is(err, reach.ErrHangs) || errors.Is(err, places.ErrInTree)
}
