package pxar

import (
	"bytes"
	"math"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// Types of an object, as Linux has them in st_mode.
const (
	TypeMask        = 0o170000
	TypeFIFO        = 0o010000
	TypeCharDevice  = 0o020000
	TypeDir         = 0o040000
	TypeBlockDevice = 0o060000
	TypeRegular     = 0o100000
	TypeSymlink     = 0o120000
	TypeSocket      = 0o140000
)

// Metadata is what an archive stores about an object besides its content.
type Metadata struct {
	Mode      uint32 // Linux st_mode: type and permissions
	UID, GID  uint32
	ProjectID uint32 // of quotas; 0 if none is stored
	Flags     uint64 // reference "pxar", section 8
	Mtime     Timestamp

	xattrs []Attribute
	fcaps  []byte // nil if none
	acl    *acl   // nil if none
}

// Timestamp is a time as seconds and nanoseconds since the epoch. Nsec is
// below 10⁹ and counts forward also before the epoch.
type Timestamp struct {
	Sec  int64
	Nsec uint32
}

// Attribute is an extended attribute.
type Attribute struct {
	Name  string
	Value []byte
}

// Type returns the type bits of the mode.
func (m *Metadata) Type() uint32 { return m.Mode & TypeMask }

// readStat reads the ENTRY or ENTRY_V1 at pos and returns its end.
func (m *Metadata) readStat(w *window, pos int64) (end int64, err error) {
	h, err := w.header(pos)
	if err != nil {
		return 0, err
	}
	var b []byte
	switch h.typ {
	case itemEntry:
		b, err = w.content(h, statSize)
	case itemEntryV1:
		b, err = w.content(h, statV1Size)
	default:
		err = corrupt.At(pos, "item of type %#016x, want an entry", h.typ)
	}
	if err != nil {
		return 0, err
	}
	mode := le64(b)
	if mode > math.MaxUint16 {
		return 0, corrupt.At(pos, "entry with mode %#o", mode)
	}
	m.Mode, m.Flags, m.UID, m.GID = uint32(mode), le64(b[8:]), le32(b[16:]), le32(b[20:])
	if m.Mtime = mtime(b[24:]); m.Mtime.Nsec >= 1e9 {
		return 0, corrupt.At(pos, "entry with %d nanoseconds", m.Mtime.Nsec)
	}
	return h.end(), nil
}

// mtime decodes the time of either stat format; the older one has nanoseconds
// since the epoch.
func mtime(b []byte) Timestamp {
	v := le64(b)
	if len(b) == 8 {
		return Timestamp{Sec: int64(v / 1e9), Nsec: uint32(v % 1e9)}
	}
	return Timestamp{Sec: int64(v), Nsec: le32(b[8:])}
}

// attrReader collects the attributes of one entry.
type attrReader struct {
	m                        *Metadata
	xattrs, xattrBytes, acls int64 // as far as limits go
	project                  bool
	names                    map[string]struct{} // of xattrs, once there are many
}

// manyXattrs is from where on names are found faster in a map.
const manyXattrs = 32

// read takes the item h if it is an attribute, and else reports that there are
// no more.
func (d *attrReader) read(w *window, h header) (more bool, err error) {
	switch h.typ {
	case itemXattr:
		return true, d.readXattr(w, h)
	case itemFCaps:
		return true, d.readFCaps(w, h)
	case itemQuotaProject:
		return true, d.readProject(w, h)
	case itemACLUser, itemACLGroup, itemACLDefaultUser, itemACLDefaultGroup:
		return true, d.readACLEntry(w, h)
	case itemACLGroupObj:
		return true, d.readGroupObj(w, h)
	case itemACLDefault:
		return true, d.readDefault(w, h)
	}
	return false, nil
}

// readXattr reads an extended attribute. One with a name that no writer stores
// is dropped, and so is one whose name was there before.
func (d *attrReader) readXattr(w *window, h header) error {
	d.xattrs++
	d.xattrBytes += h.contentLen()
	if h.contentLen() > maxXattr || d.xattrs > int64(maxXattrs) || d.xattrBytes > maxXattrBytes {
		return corrupt.At(h.pos, "extended attribute %d with %d, all with %d bytes", d.xattrs, h.contentLen(), d.xattrBytes)
	}
	b, err := w.bytes(h.content(), int(h.contentLen()))
	if err != nil {
		return err
	}
	name, value, found := bytes.Cut(b, []byte{0})
	if !found {
		return corrupt.At(h.pos, "name of an extended attribute does not end")
	}
	if !isXattrName(name) || d.has(name) {
		return nil
	}
	d.add(Attribute{Name: string(name), Value: bytes.Clone(value)})
	return nil
}

func (d *attrReader) add(x Attribute) {
	d.m.xattrs = append(d.m.xattrs, x)
	switch n := len(d.m.xattrs); {
	case n == manyXattrs:
		d.names = make(map[string]struct{})
		for i := range d.m.xattrs {
			d.names[d.m.xattrs[i].Name] = struct{}{}
		}
	case n > manyXattrs:
		d.names[x.Name] = struct{}{}
	}
}

func (d *attrReader) has(name []byte) bool {
	if d.names != nil {
		_, there := d.names[string(name)]
		return there
	}
	for i := range d.m.xattrs {
		if d.m.xattrs[i].Name == string(name) {
			return true
		}
	}
	return false
}

// isXattrName reports whether an attribute with that name is stored as an
// XATTR item. Capabilities and ACLs have items of their own.
func isXattrName(b []byte) bool {
	name := string(b)
	if len(name) > maxName {
		return false
	}
	for _, prefix := range []string{"user.", "trusted."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest != ""
		}
	}
	return name == "security.NTACL"
}

func (d *attrReader) readFCaps(w *window, h header) error {
	if d.m.fcaps != nil || h.contentLen() > maxXattr {
		return corrupt.At(h.pos, "file capabilities of %d bytes, or twice", h.contentLen())
	}
	b, err := w.bytes(h.content(), int(h.contentLen()))
	if err != nil {
		return err
	}
	d.m.fcaps = bytes.Clone(b)
	return nil
}

func (d *attrReader) readProject(w *window, h header) error {
	b, err := w.content(h, 8)
	if err != nil {
		return err
	}
	if d.project {
		return corrupt.At(h.pos, "quota project twice")
	}
	d.project = true
	d.m.ProjectID = uint32(le64(b))
	return nil
}
