package maint

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// binding is what all datastore.cfg together say of one datastore, whatever it is
// called in them.
type binding struct {
	mode cfg.Mode
	// stated is the mode of the entry that it was asked for by.
	stated cfg.Mode
	// names are the entries that are the datastore.
	names []string
	// own is where it is, as far as it was seen.
	own spot
	// unsure are entries whose places do not answer: whether they are the
	// datastore, nobody can say.
	unsure []string
}

// counted are the names that operations are published under: those of all its
// entries, or where there is none, the one of those that are not listed.
func (b binding) counted(store string) []string {
	if len(b.names) > 0 {
		return b.names
	}
	return []string{unlistedName(b.own, store)}
}

// entriesOf lists the sections for datastores in all files.
func entriesOf(host Host, files []configReading) []cfg.Datastore {
	var out []cfg.Datastore
	for i, f := range files {
		for _, s := range f.config.Sections {
			if s.Kind == cfg.SectionType {
				out = append(out, f.config.Datastore(s, host.Configs()[i].File()))
			}
		}
	}
	return out
}

// look looks at the datastore, and at the places of all entries.
func (m *modeSource) look(ctx context.Context, files []configReading) {
	list := entriesOf(m.host, files)
	m.mu.Lock()
	quiet := m.last.mode.Type == cfg.Unmount && m.own.id.Seen()
	m.mu.Unlock()
	if m.path == "" || quiet {
		m.host.Places().lookFor(ctx, list)
		return
	}
	m.host.Places().lookFor(ctx, list, m.path)
}

// seen says whether all places were looked at that [modeSource.look] looks at.
func (m *modeSource) seen(files []configReading) bool {
	p := m.host.Places()
	for _, e := range entriesOf(m.host, files) {
		if e.Path == "" || untouchable(e) && (e.Removable() || p.lookedAt(e.Dir())) {
			continue
		}
		if _, _, ok := p.at(e.Dir()); !ok {
			return false
		}
	}
	return true
}

// bind finds the entries that are the datastore, and the strictest of their modes.
func (m *modeSource) bind(files []configReading, epoch uint64) binding {
	entries := entriesOf(m.host, files)
	own := m.whereabouts(entries)
	b := binding{own: own}
	for i, f := range files {
		if f.config.Problem != "" {
			b.mode = stricter(b.mode, cfg.Mode{Type: cfg.Unknown, Problem: m.host.Configs()[i].File() + ": " + f.config.Problem})
		}
	}
	for _, e := range entries {
		at, err, _ := m.host.Places().of(e)
		hangs := isHung(err)
		if hangs && e.Name != m.store {
			b.unsure = append(b.unsure, e.Name)
		}
		if !m.isOwn(e, own, at, hangs) {
			continue
		}
		b.names = append(b.names, e.Name)
		if e.Name == m.store {
			b.stated = stricter(b.stated, e.Mode)
		}
		mode := e.Mode
		if e.Name != m.store && mode.Type != cfg.None {
			mode.Via = e.Name
		}
		b.mode = stricter(b.mode, mode)
	}
	slices.Sort(b.names)
	b.names = slices.Compact(b.names)
	m.mu.Lock()
	defer m.mu.Unlock()
	b.mode = m.unlessGone(b, files)
	m.own, m.last, m.epoch, m.valid = own, b, epoch, settled(files)
	return b
}

func settled(files []configReading) bool {
	return !slices.ContainsFunc(files, func(f configReading) bool { return !f.settled })
}

// isOwn says whether an entry is the datastore: one of the same name unless it is
// known to be another one, and one of another name if it is known to be this one.
func (m *modeSource) isOwn(e cfg.Datastore, own, at spot, hangs bool) bool {
	if e.Name == m.store {
		return !own.id.Differs(at.id)
	}
	return own.id.Same(at.id) || (hangs || !own.id.Seen() && !at.id.Seen()) && own.dir != "" && own.dir == at.dir
}

// whereabouts is where the datastore is, or was when it was last seen.
func (m *modeSource) whereabouts(entries []cfg.Datastore) spot {
	path := m.path
	if path == "" {
		i := slices.IndexFunc(entries, func(e cfg.Datastore) bool { return e.Name == m.store })
		if i < 0 {
			return spot{}
		}
		at, _, _ := m.host.Places().of(entries[i])
		return at
	}
	m.mu.Lock()
	own := m.own
	m.mu.Unlock()
	at, err, _ := m.host.Places().at(path)
	switch {
	case err == nil && at.id.Seen():
		at.id.UUID = cmp.Or(at.id.UUID, sameDisk(own, at))
		return at
	case own.id.Seen():
		own.id = present(own.id)
		return own // where it was
	}
	return at
}

// sameDisk is the UUID that was known of where the datastore was before, if it
// still is there.
func sameDisk(before, now spot) string {
	if before.id.Dev == now.id.Dev && before.id.Ino == now.id.Ino {
		return before.id.UUID
	}
	return ""
}

// unlessGone refuses what is new on a datastore that was configured and no longer
// is: nobody would count it, and an offline would end by itself. Called with mu
// held.
func (m *modeSource) unlessGone(b binding, files []configReading) cfg.Mode {
	hidden := slices.ContainsFunc(files, func(f configReading) bool { return f.hidden })
	switch {
	case len(b.names) > 0:
		m.listed = true
	case m.path != "" && m.listed && !hidden && b.mode.Type == cfg.None:
		return cfg.Mode{Type: cfg.Unlisted}
	}
	return b.mode
}

// isHung says that nobody knows what is at a place.
func isHung(err error) bool { return errors.Is(err, reach.ErrHangs) || errors.Is(err, ErrInTree) }
