package lvm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
)

// ReadAt reads from a volume. member returns the physical volume at a position of the list
// that [Groups] was given. It reads less than p only at the end, where it returns
// [io.EOF].
func (v *Volume) ReadAt(member func(int) io.ReaderAt, p []byte, off int64) (int, error) {
	if v.Problem != "" {
		return 0, fmt.Errorf("volume %s: %s", v.Name, v.Problem)
	}
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	done := 0
	for done < len(p) && off+int64(done) < v.Size {
		at := off + int64(done)
		i, from, room := v.find(at)
		want := p[done:min(len(p), done+int(min(room, int64(len(p)))))]
		n, err := member(i).ReadAt(want, from)
		done += n
		if n < len(want) {
			if err == nil || errors.Is(err, io.EOF) { // its size was compared before
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// find returns where an offset of the volume lies: on which member, where there, and how
// many bytes follow there.
func (v *Volume) find(off int64) (member int, from, room int64) {
	i := sort.Search(len(v.pieces), func(i int) bool { return v.pieces[i].off+v.pieces[i].size > off })
	p := v.pieces[i]
	within := off - p.off
	row, inStripe := within/p.stripe, within%p.stripe
	n := int64(len(p.places))
	at := p.places[row%n]
	room = min(p.stripe-inStripe, p.size-within)
	return at.member, at.off + row/n*p.stripe + inStripe, room
}

// Range is a range of a physical volume.
type Range struct {
	Member    int
	Off, Size int64
}

// Where returns the range of a physical volume in which the volume goes on from off. It is
// for who wants to know about holes.
func (v *Volume) Where(off int64) Range {
	member, from, room := v.find(off)
	return Range{member, from, room}
}
