package pxar

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// acl is what an archive stores of both ACLs of an object. What is missing in
// it comes from the mode.
type acl struct {
	users, groups               []aclEntry
	defaultUsers, defaultGroups []aclEntry
	groupObj                    *uint64
	def                         *defaultACL
}

// aclEntry is the permission of a named user or group.
type aclEntry struct{ id, perm uint64 }

// defaultACL is the part of a directory's default ACL that is not named.
type defaultACL struct{ userObj, groupObj, other, mask uint64 }

// absent is the value of a field of a default ACL that is not there.
const absent = math.MaxUint64

// list returns the list that items of type typ belong to.
func (l *acl) list(typ uint64) *[]aclEntry {
	switch typ {
	case itemACLUser:
		return &l.users
	case itemACLGroup:
		return &l.groups
	case itemACLDefaultUser:
		return &l.defaultUsers
	}
	return &l.defaultGroups
}

// acl returns the entry's ACL to add to.
func (d *attrReader) acl() *acl {
	if d.m.acl == nil {
		d.m.acl = new(acl)
	}
	return d.m.acl
}

func (d *attrReader) readACLEntry(w *window, h header) error {
	b, err := w.content(h, 16)
	if err != nil {
		return err
	}
	if d.acls++; d.acls > maxACL {
		return corrupt.At(h.pos, "more than %d ACL entries", maxACL)
	}
	list := d.acl().list(h.typ)
	*list = append(*list, aclEntry{id: le64(b), perm: le64(b[8:])})
	return nil
}

func (d *attrReader) readGroupObj(w *window, h header) error {
	b, err := w.content(h, 8)
	if err != nil {
		return err
	}
	if d.acl().groupObj != nil {
		return corrupt.At(h.pos, "ACL entry of the owning group twice")
	}
	perm := le64(b)
	d.acl().groupObj = &perm
	return nil
}

func (d *attrReader) readDefault(w *window, h header) error {
	b, err := w.content(h, 32)
	if err != nil {
		return err
	}
	if d.acl().def != nil {
		return corrupt.At(h.pos, "default ACL twice")
	}
	d.acl().def = &defaultACL{userObj: le64(b), groupObj: le64(b[8:]), other: le64(b[16:]), mask: le64(b[24:])}
	return nil
}

// Tags of the entries of an ACL attribute, in the order they are stored.
const (
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

const (
	aclVersion = 2
	aclNoID    = math.MaxUint32
)

// Attributes returns the extended attributes that Linux shows for the object:
// the stored ones, its capabilities, and its ACLs as attribute values. The
// values belong to m and must not be changed.
func (m *Metadata) Attributes() []Attribute {
	if m.fcaps == nil && m.acl == nil {
		return slices.Clip(m.xattrs)
	}
	attrs := slices.Clone(m.xattrs)
	if m.fcaps != nil {
		attrs = append(attrs, Attribute{Name: attrFCaps, Value: m.fcaps})
	}
	if value := m.accessACL(); value != nil {
		attrs = append(attrs, Attribute{Name: attrAccessACL, Value: value})
	}
	if value := m.defaultACL(); value != nil {
		attrs = append(attrs, Attribute{Name: attrDefaultACL, Value: value})
	}
	return attrs
}

// accessACL returns the value of system.posix_acl_access, nil if the mode says
// everything. With an ACL the group bits of the mode are its mask.
func (m *Metadata) accessACL() []byte {
	l := m.acl
	if l == nil || len(l.users) == 0 && len(l.groups) == 0 && l.groupObj == nil {
		return nil
	}
	mask := uint64(m.Mode >> 3)
	groupObj := mask
	if l.groupObj != nil {
		groupObj = *l.groupObj
	}
	return aclValue(uint64(m.Mode>>6), groupObj, uint64(m.Mode), &mask, l.users, l.groups)
}

// defaultACL returns the value of system.posix_acl_default, nil if there is
// none. Named entries need a mask: a missing one becomes what allows them all.
func (m *Metadata) defaultACL() []byte {
	l := m.acl
	if l == nil || l.def == nil || m.Type() != TypeDir {
		return nil
	}
	var mask *uint64
	switch {
	case l.def.mask != absent:
		mask = &l.def.mask
	case len(l.defaultUsers)+len(l.defaultGroups) > 0:
		union := l.def.groupObj
		for _, e := range slices.Concat(l.defaultUsers, l.defaultGroups) {
			union |= e.perm
		}
		mask = &union
	}
	// An absent permission, all bits set, means rwx like any other 7.
	return aclValue(l.def.userObj, l.def.groupObj, l.def.other, mask, l.defaultUsers, l.defaultGroups)
}

// aclValue encodes an ACL; mask may be nil.
func aclValue(userObj, groupObj, other uint64, mask *uint64, users, groups []aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+8*(4+len(users)+len(groups))), aclVersion)
	b = appendACL(b, tagUserObj, userObj, aclNoID)
	b = appendNamed(b, tagUser, users)
	b = appendACL(b, tagGroupObj, groupObj, aclNoID)
	b = appendNamed(b, tagGroup, groups)
	if mask != nil {
		b = appendACL(b, tagMask, *mask, aclNoID)
	}
	return appendACL(b, tagOther, other, aclNoID)
}

// appendNamed appends named entries in the order of their ids.
func appendNamed(b []byte, tag uint16, list []aclEntry) []byte {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b aclEntry) int { return cmp.Compare(uint32(a.id), uint32(b.id)) })
	for _, e := range list {
		b = appendACL(b, tag, e.perm, uint32(e.id))
	}
	return b
}

func appendACL(b []byte, tag uint16, perm uint64, id uint32) []byte {
	b = binary.LittleEndian.AppendUint16(b, tag)
	b = binary.LittleEndian.AppendUint16(b, uint16(perm&7))
	return binary.LittleEndian.AppendUint32(b, id)
}
