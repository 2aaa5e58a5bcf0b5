package pxar

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Attributes that archives have items of their own for.
const (
	attrFCaps      = "security.capability"
	attrAccessACL  = "system.posix_acl_access"
	attrDefaultACL = "system.posix_acl_default"
)

// StoresAttribute reports whether archives keep an extended attribute with that
// name (reference "pxar", section 8).
func StoresAttribute(name string) bool {
	switch name {
	case attrFCaps, attrAccessACL, attrDefaultACL:
		return true
	}
	return isXattrName([]byte(name))
}

// SetAttribute is the inverse of [Metadata.Attributes]: it stores an extended
// attribute, capabilities or an ACL, in place of one with the same name. The
// value belongs to m from then on. An error matches [ErrEntry], and m is what
// it was.
//
// Of an access ACL only what the mode does not say is kept: its owner's,
// others' and mask entries are the bits of the mode, as Linux has it.
func (m *Metadata) SetAttribute(name string, value []byte) error {
	switch name {
	case attrFCaps:
		return m.setFCaps(value)
	case attrAccessACL, attrDefaultACL:
		return m.setACL(name, value)
	}
	return m.setXattr(Attribute{name, value})
}

// stored returns the length of the content of its item.
func (x *Attribute) stored() int64 { return int64(len(x.Name) + 1 + len(x.Value)) }

func (m *Metadata) setXattr(x Attribute) error {
	if !isXattrName([]byte(x.Name)) {
		return refuse("extended attribute %q", x.Name)
	}
	at := len(m.xattrs)
	sum := x.stored()
	for i := range m.xattrs {
		if m.xattrs[i].Name == x.Name {
			at = i
			continue
		}
		sum += m.xattrs[i].stored()
	}
	if x.stored() > maxXattr || sum > maxXattrBytes || at == maxXattrs {
		return refuse("extended attribute %q, number %d, with %d bytes, all with %d", x.Name, at+1, x.stored(), sum)
	}
	list := slices.Clone(m.xattrs) // what Attributes returned stays as it is
	if at == len(list) {
		list = append(list, x)
	}
	list[at] = x
	m.xattrs = list
	return nil
}

func (m *Metadata) setFCaps(value []byte) error {
	if len(value) > maxXattr {
		return refuse("file capabilities of %d bytes", len(value))
	}
	m.fcaps = value
	if value == nil {
		m.fcaps = []byte{}
	}
	return nil
}

// setACL stores the value of one of the two attributes for ACLs. An ACL without
// entries is none, as for Linux.
func (m *Metadata) setACL(name string, value []byte) error {
	p, err := parseACL(value)
	if err != nil {
		return err
	}
	var l acl
	if m.acl != nil {
		l = *m.acl
	}
	if name == attrAccessACL {
		l.users, l.groups, l.groupObj = p.users, p.groups, nil
		if p.mask != nil {
			l.groupObj = p.groupObj
		}
	} else {
		l.defaultUsers, l.defaultGroups, l.def = p.users, p.groups, p.defaults()
	}
	named := len(l.users) + len(l.groups) + len(l.defaultUsers) + len(l.defaultGroups)
	if named > maxACL {
		return refuse("%d ACL entries, want at most %d", named, maxACL)
	}
	m.acl = &l
	if named == 0 && l.groupObj == nil && l.def == nil {
		m.acl = nil
	}
	return nil
}

// parsedACL is the value of an attribute for an ACL. A value without entries
// gives the zero parsedACL; else only mask can be nil.
type parsedACL struct {
	userObj, groupObj, mask, other *uint64
	users, groups                  []aclEntry
}

// defaults returns what is stored of a default ACL besides its named entries.
func (p *parsedACL) defaults() *defaultACL {
	if p.userObj == nil {
		return nil
	}
	d := &defaultACL{userObj: *p.userObj, groupObj: *p.groupObj, other: *p.other, mask: absent}
	if p.mask != nil {
		d.mask = *p.mask
	}
	return d
}

const (
	aclHeaderSize = 4
	aclEntrySize  = 8
)

// parseACL reads the value of an attribute for an ACL, which must be one that
// Linux would take.
func parseACL(value []byte) (*parsedACL, error) {
	p := new(parsedACL)
	if len(value) < aclHeaderSize || (len(value)-aclHeaderSize)%aclEntrySize != 0 {
		return nil, refuse("ACL of %d bytes", len(value))
	}
	if v := binary.LittleEndian.Uint32(value); v != aclVersion {
		return nil, refuse("ACL of version %d, want %d", v, aclVersion)
	}
	entries := value[aclHeaderSize:]
	if len(entries) == 0 {
		return p, nil
	}
	if n := len(entries) / aclEntrySize; n > maxACL+4 {
		return nil, refuse("ACL of %d entries", n)
	}
	for ; len(entries) > 0; entries = entries[aclEntrySize:] {
		tag, perm, id := binary.LittleEndian.Uint16(entries), binary.LittleEndian.Uint16(entries[2:]), le32(entries[4:])
		if err := p.add(tag, perm, id); err != nil {
			return nil, err
		}
	}
	return p, p.finish()
}

// add takes in an entry.
func (p *parsedACL) add(tag, perm uint16, id uint32) error {
	if perm > 7 {
		return refuse("ACL entry with permissions %#o", perm)
	}
	named := aclEntry{id: uint64(id), perm: uint64(perm)}
	switch tag {
	case tagUserObj:
		return set(&p.userObj, named.perm)
	case tagGroupObj:
		return set(&p.groupObj, named.perm)
	case tagMask:
		return set(&p.mask, named.perm)
	case tagOther:
		return set(&p.other, named.perm)
	case tagUser:
		p.users = append(p.users, named)
	case tagGroup:
		p.groups = append(p.groups, named)
	default:
		return refuse("ACL entry with tag %#x", tag)
	}
	if id == aclNoID {
		return refuse("ACL entry of a user or group without id")
	}
	return nil
}

func set(to **uint64, perm uint64) error {
	if *to != nil {
		return refuse("ACL with two entries of one kind")
	}
	*to = &perm
	return nil
}

// finish checks that the ACL is complete and puts it in order.
func (p *parsedACL) finish() error {
	if p.userObj == nil || p.groupObj == nil || p.other == nil || p.mask == nil && len(p.users)+len(p.groups) > 0 {
		return refuse("ACL is not complete")
	}
	for _, list := range [][]aclEntry{p.users, p.groups} {
		slices.SortFunc(list, func(a, b aclEntry) int { return cmp.Compare(a.id, b.id) })
		for i := 1; i < len(list); i++ {
			if list[i].id == list[i-1].id {
				return refuse("ACL with two entries of id %d", list[i].id)
			}
		}
	}
	return nil
}
