package pxar

import (
	"encoding/binary"
	"math"
)

// check complains about metadata that is not that of one of the types.
func (m *Metadata) check(types ...uint32) error {
	fits := false
	for _, typ := range types {
		fits = fits || m.Type() == typ
	}
	switch {
	case m.Mode > math.MaxUint16 || !fits:
		return refuse("mode %#o is not of this type", m.Mode)
	case m.Mtime.Nsec >= 1e9:
		return refuse("time with %d nanoseconds", m.Mtime.Nsec)
	}
	return nil
}

// appendHeader appends the header of an item with that much content.
func appendHeader(b []byte, typ uint64, content int64) []byte {
	return appendNums(b, typ, uint64(headerSize+content))
}

// appendNums appends numbers of 64 bits.
func appendNums(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// appendText appends an item whose content ends with a NUL.
func appendText(b []byte, typ uint64, text string) []byte {
	b = appendHeader(b, typ, int64(len(text)+1))
	return append(append(b, text...), 0)
}

// appendEntry appends an ENTRY with its attributes, in the order of reference
// "pxar", section 3.
func appendEntry(b []byte, m *Metadata) []byte {
	b = appendHeader(b, itemEntry, statSize)
	b = appendNums(b, uint64(m.Mode), m.Flags, uint64(m.UID)|uint64(m.GID)<<32, uint64(m.Mtime.Sec), uint64(m.Mtime.Nsec))
	for i := range m.xattrs {
		x := &m.xattrs[i]
		b = appendHeader(b, itemXattr, x.stored())
		b = append(append(append(b, x.Name...), 0), x.Value...)
	}
	if m.acl != nil {
		b = m.acl.append(b)
	}
	if m.fcaps != nil {
		b = append(appendHeader(b, itemFCaps, int64(len(m.fcaps))), m.fcaps...)
	}
	if m.ProjectID != 0 {
		b = appendNums(appendHeader(b, itemQuotaProject, 8), uint64(m.ProjectID))
	}
	return b
}

// append appends the items of an ACL.
func (l *acl) append(b []byte) []byte {
	b = appendACLItems(b, itemACLUser, l.users)
	b = appendACLItems(b, itemACLGroup, l.groups)
	if l.groupObj != nil {
		b = appendNums(appendHeader(b, itemACLGroupObj, 8), *l.groupObj)
	}
	if d := l.def; d != nil {
		b = appendNums(appendHeader(b, itemACLDefault, 32), d.userObj, d.groupObj, d.other, d.mask)
	}
	b = appendACLItems(b, itemACLDefaultUser, l.defaultUsers)
	return appendACLItems(b, itemACLDefaultGroup, l.defaultGroups)
}

func appendACLItems(b []byte, typ uint64, list []aclEntry) []byte {
	for _, e := range list {
		b = appendNums(appendHeader(b, typ, 16), e.id, e.perm)
	}
	return b
}
