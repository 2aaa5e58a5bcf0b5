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

// Binding is what every datastore.cfg says of one datastore, under all its names.
type Binding struct {
	Mode cfg.Mode
	// Stated is the mode of the entry with the name that was asked for.
	Stated cfg.Mode
	// Names are the names of the entries that mean the datastore.
	Names []string
	// Own is where the datastore is, as far as it was seen.
	Own places.Spot
	// Unsure are entries whose places do not answer. They may or may not mean the
	// datastore.
	Unsure []string
}

// counted returns the names under which operations are published: the names of all
// entries, or, if there is none, the name for unlisted datastores.
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
		out = append(out, f.Config.Datastores(host.Configs()[i].File())...)
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

// seen reports whether all places that [Source.look] looks at have been looked at.
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

// bind finds the entries that mean the datastore, and the strictest of their modes.
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

// isOwn reports whether an entry means the datastore: an entry of the same name does
// unless it is known to mean another one, and an entry of another name does if it is
// known to mean this one.
func (m *Source) isOwn(e cfg.Datastore, own, at places.Spot, hangs bool) bool {
	if e.Name == m.store {
		return !own.ID.Differs(at.ID)
	}
	return own.ID.Same(at.ID) || (hangs || !own.ID.Seen() && !at.ID.Seen()) && own.Dir != "" && own.Dir == at.Dir
}

// whereabouts returns where the datastore is, or was when it was last seen.
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

// anotherDisk reports whether another disk has taken the place of the one that was
// there. Nothing reads that disk.
func anotherDisk(before, now places.Spot) bool {
	return before.ID.UUID != "" && now.ID.UUID != "" && !strings.EqualFold(before.ID.UUID, now.ID.UUID)
}

// sameDisk returns the UUID that was known for the datastore's former place, if the
// datastore is still there.
func sameDisk(before, now places.Spot) string {
	if before.ID.Dev == now.ID.Dev && before.ID.Ino == now.ID.Ino {
		return before.ID.UUID
	}
	return ""
}

// unlessGone refuses new operations on a datastore that was configured and no longer
// is: nothing would count them, and removing an offline entry would end its mode. The
// caller holds mu.
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

// isHung reports whether the error leaves it unknown what is at a place.
func isHung(err error) bool {
	return errors.Is(err, reach.ErrHangs) || errors.Is(err, places.ErrInTree)
}
