package lvm

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// PhysicalVolume is a disk, or a part of one, that may belong to a group.
type PhysicalVolume struct {
	// Size is its length in bytes.
	Size int64

	label label
	group *section // the text of its group, nil if there is none
	name  string
	seqno int64
}

// Open looks whether a physical volume begins at r; [ErrNone] if there is none.
func Open(r io.ReaderAt, size int64) (*PhysicalVolume, error) {
	l, err := readLabel(r, size)
	if err != nil {
		return nil, err
	}
	pv := &PhysicalVolume{Size: size, label: l}
	var failed error
	for _, a := range l.texts {
		if err := pv.read(r, a); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if pv.group == nil {
		return pv, failed
	}
	return pv, nil
}

// read reads the text in an area, and keeps it if it is newer than what there is.
func (pv *PhysicalVolume) read(r io.ReaderAt, a area) error {
	text, err := readText(r, pv.Size, a)
	if err != nil || len(text) == 0 {
		return err
	}
	top, err := parseText(text)
	if err != nil {
		return err
	}
	for _, name := range top.order {
		g := top.sections[name]
		if seqno := g.values["seqno"].number; g.sections["physical_volumes"] != nil && (pv.group == nil || seqno > pv.seqno) {
			pv.group, pv.name, pv.seqno = g, name, seqno
		}
	}
	return nil
}

// Group is a volume group.
type Group struct {
	Name    string
	Volumes []Volume // by name
	// Members are the positions of its physical volumes in the list that was given.
	Members []int
}

// Volume is a logical volume.
type Volume struct {
	Name string
	// Size is its length in bytes.
	Size int64
	// Problem says why it cannot be read, "" if it can.
	Problem string

	pieces []piece
}

// piece is a range of a volume that lies in stripes on physical volumes.
type piece struct {
	off, size int64
	stripe    int64 // how many bytes lie together; size, if there is one place only
	places    []place
}

// place is where a stripe lies: from an offset of a physical volume on.
type place struct {
	member int
	off    int64
}

// Groups joins physical volumes to groups. Positions in the list may be nil.
func Groups(members []*PhysicalVolume) []Group {
	newest := make(map[string]*PhysicalVolume) // by the id of the group
	var order []string
	for _, pv := range members {
		if pv == nil || pv.group == nil {
			continue
		}
		id := pv.group.values["id"].text
		if known := newest[id]; known == nil {
			order = append(order, id)
			newest[id] = pv
		} else if pv.seqno > known.seqno {
			newest[id] = pv
		}
	}
	var out []Group
	for _, id := range order {
		out = append(out, groupOf(newest[id], members))
	}
	slices.SortStableFunc(out, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// layout is what is needed to find the pieces of a group.
type layout struct {
	extent  int64          // bytes
	members map[string]int // by the name of the physical volume in the text
	starts  map[string]int64
	sizes   []int64
}

func groupOf(pv *PhysicalVolume, members []*PhysicalVolume) Group {
	g := Group{Name: pv.name}
	l := layout{extent: bytesOf(pv.group.values["extent_size"].number), members: make(map[string]int), starts: make(map[string]int64)}
	for _, m := range members {
		size := int64(0)
		if m != nil {
			size = m.Size
		}
		l.sizes = append(l.sizes, size)
	}
	pvs := pv.group.sections["physical_volumes"]
	for _, name := range pvs.order {
		described := pvs.sections[name]
		id := plainID(described.values["id"].text)
		i := slices.IndexFunc(members, func(m *PhysicalVolume) bool { return m != nil && m.label.id == id })
		if i < 0 {
			continue
		}
		l.members[name], l.starts[name] = i, bytesOf(described.values["pe_start"].number)
		g.Members = append(g.Members, i)
	}
	lvs := pv.group.sections["logical_volumes"]
	if lvs == nil {
		return g
	}
	for _, name := range lvs.order {
		if visible(lvs.sections[name]) {
			g.Volumes = append(g.Volumes, l.volume(name, lvs.sections[name]))
		}
	}
	slices.SortFunc(g.Volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return g
}

func visible(lv *section) bool {
	return slices.ContainsFunc(lv.values["status"].list, func(v value) bool { return v.text == "VISIBLE" })
}

// bytesOf returns a number of sectors in bytes, -1 if that is none.
func bytesOf(sectors int64) int64 {
	if sectors < 0 || sectors > math.MaxInt64/2/sector {
		return -1
	}
	return sectors * sector
}

// maxSegments bounds the segments of a volume.
const maxSegments = 100_000

// volume finds the pieces of a volume.
func (l *layout) volume(name string, lv *section) Volume {
	v := Volume{Name: name}
	count := lv.values["segment_count"].number
	if count < 1 || count > maxSegments || l.extent <= 0 {
		v.Problem = "its segments are not described"
		return v
	}
	for i := range count {
		segment := lv.sections[fmt.Sprintf("segment%d", i+1)]
		if segment == nil {
			v.Problem = "a segment is missing from its description"
			return v
		}
		p, problem := l.piece(segment)
		if v.Problem == "" {
			v.Problem = problem
		}
		if p.size <= 0 || p.off != v.Size || p.size > math.MaxInt64/2-v.Size {
			v.Problem = "its segments do not follow each other"
			return v
		}
		v.pieces = append(v.pieces, p)
		v.Size += p.size
	}
	return v
}

// extents returns a number of extents in bytes, -1 if that is none.
func (l *layout) extents(n int64) int64 {
	if n < 0 || n > math.MaxInt64/4/l.extent {
		return -1
	}
	return n * l.extent
}

// kinds says why volumes of a kind cannot be read.
var kinds = map[string]string{
	"thin":       "thin volumes cannot be read yet",
	"thin-pool":  "it is the pool of thin volumes",
	"cache":      "cached volumes cannot be read",
	"cache-pool": "it is the pool of cached volumes",
	"writecache": "cached volumes cannot be read",
	"mirror":     "mirrored volumes cannot be read",
	"snapshot":   "snapshots of this kind cannot be read",
	"vdo":        "VDO volumes cannot be read",
	"vdo-pool":   "it is the pool of VDO volumes",
	"error":      "it is of a kind that only gives errors",
}

// piece returns the places of a segment, and why they cannot be read.
func (l *layout) piece(segment *section) (piece, string) {
	p := piece{off: l.extents(segment.values["start_extent"].number), size: l.extents(segment.values["extent_count"].number)}
	kind := segment.values["type"].text
	if kind != "striped" {
		if why, ok := kinds[kind]; ok {
			return p, why
		}
		return p, fmt.Sprintf("volumes of the kind %q cannot be read", kind)
	}
	stripes, list := segment.values["stripe_count"].number, segment.values["stripes"].list
	if stripes < 1 || int64(len(list)) != 2*stripes {
		return p, "its stripes are not described"
	}
	p.stripe = p.size
	if stripes > 1 {
		p.stripe = bytesOf(segment.values["stripe_size"].number)
	}
	if p.stripe <= 0 || p.size%stripes != 0 {
		return p, "its stripes are not described"
	}
	for i := 0; i < len(list); i += 2 {
		at, problem := l.place(list[i].text, list[i+1].number, p.size/stripes)
		if problem != "" {
			return p, problem
		}
		p.places = append(p.places, at)
	}
	return p, ""
}

// place finds a range of extents of a physical volume.
func (l *layout) place(name string, extent, size int64) (place, string) {
	member, there := l.members[name]
	if !there {
		return place{}, "a part of it lies on a physical volume that is not in this backup"
	}
	from, start := l.extents(extent), l.starts[name]
	if from < 0 || start < 0 || size > l.sizes[member] || start > l.sizes[member]-size || from > l.sizes[member]-size-start {
		return place{}, "a part of it lies behind the end of its physical volume"
	}
	return place{member, start + from}, ""
}
