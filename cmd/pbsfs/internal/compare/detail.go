package compare

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/tree"
)

// The aspects of a file that can change, as [Detail.What] has them.
const (
	Type         = "type"
	Content      = "content"
	Size         = "size"
	Mode         = "mode"
	Owner        = "owner"
	Mtime        = "mtime"
	Target       = "target"
	DeviceNumber = "device"
	Xattr        = "xattr"
	ACL          = "acl"
	DefaultACL   = "default-acl"
	Capabilities = "capabilities"
)

// Aspects are all of them.
func Aspects() []string {
	return []string{Type, Content, Size, Mode, Owner, Mtime, Target, DeviceNumber, Xattr, ACL, DefaultACL, Capabilities}
}

// Detail is one aspect in which two states of a file differ. Old and New are for people;
// they are "" for contents and for values of attributes.
type Detail struct {
	What string `json:"what"`
	// Name is that of an extended attribute.
	Name string `json:"name,omitempty"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Metadata returns in what the metadata of two nodes differ: in type, size, and all but
// the content. What a datastore makes up is left out.
func Metadata(ctx context.Context, a, b Side) ([]Detail, error) {
	var out []Detail
	x, y := a.Node.Attr(), b.Node.Attr()
	differ := func(what string, was, is any) {
		if p, q := fmt.Sprint(was), fmt.Sprint(is); p != q {
			out = append(out, Detail{What: what, Old: p, New: q})
		}
	}
	differ(Type, TypeName(a.Node.Type()), TypeName(b.Node.Type()))
	if a.Node.Type() == b.Node.Type() && a.Node.Type() == unix.S_IFREG {
		differ(Size, x.Size, y.Size)
	}
	if a.Node.MadeUp() || b.Node.MadeUp() {
		return out, nil
	}
	differ(Mode, octal(x.Mode), octal(y.Mode))
	differ(Owner, ids(x), ids(y))
	if x.Mtime != y.Mtime {
		out = append(out, Detail{What: Mtime, Old: Stamp(x.Mtime), New: Stamp(y.Mtime)})
	}
	differ(Target, a.Node.Target(), b.Node.Target())
	if isDevice(a.Node) && isDevice(b.Node) {
		differ(DeviceNumber, device(x.Rdev), device(y.Rdev))
	}
	attrs, err := attributes(ctx, a, b)
	return append(out, attrs...), err
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func ids(a tree.Attr) string { return fmt.Sprintf("%d:%d", a.UID, a.GID) }

func isDevice(n *tree.Node) bool {
	return n.Type() == unix.S_IFCHR || n.Type() == unix.S_IFBLK
}

func device(rdev uint32) string {
	return fmt.Sprintf("%d,%d", rdev>>8&0xfff, rdev&0xff|rdev>>12&^0xff)
}

// Stamp returns a time in UTC, with as many digits as it has.
func Stamp(t tree.Time) string {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC().Format("2006-01-02T15:04:05.999999999Z")
}

// TypeName returns the name of a type: S_IFMT bits.
func TypeName(t uint32) string {
	switch t {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "unknown"
}

// attributes compares extended attributes, by name.
func attributes(ctx context.Context, a, b Side) ([]Detail, error) {
	x, err := a.Node.ReadXattrs(ctx, a.Right)
	if err != nil {
		return nil, err
	}
	y, err := b.Node.ReadXattrs(ctx, b.Right)
	if err != nil {
		return nil, err
	}
	var out []Detail
	for _, p := range x {
		i := slices.IndexFunc(y, func(q tree.Attribute) bool { return q.Name == p.Name })
		switch {
		case i < 0:
			out = append(out, attribute(p.Name, "set", "not set"))
		case !bytes.Equal(p.Value, y[i].Value):
			out = append(out, attribute(p.Name, "", ""))
		}
	}
	for _, q := range y {
		if !slices.ContainsFunc(x, func(p tree.Attribute) bool { return p.Name == q.Name }) {
			out = append(out, attribute(q.Name, "not set", "set"))
		}
	}
	slices.SortFunc(out, func(a, b Detail) int { return strings.Compare(a.What+a.Name, b.What+b.Name) })
	return out, nil
}

func attribute(name, was, is string) Detail {
	switch name {
	case "system.posix_acl_access":
		return Detail{What: ACL, Old: was, New: is}
	case "system.posix_acl_default":
		return Detail{What: DefaultACL, Old: was, New: is}
	case "security.capability":
		return Detail{What: Capabilities, Old: was, New: is}
	}
	return Detail{What: Xattr, Name: name, Old: was, New: is}
}

// Text returns the detail for people: "mode 0644 -> 0600". show makes text of others fit
// to be shown.
func (d Detail) Text(show func(string) string) string {
	out := d.What
	if d.Name != "" {
		out += " " + show(d.Name)
	}
	if d.Old != "" || d.New != "" {
		out += " " + orNothing(show(d.Old)) + " -> " + orNothing(show(d.New))
	}
	return out
}

func orNothing(s string) string {
	if s == "" {
		return strconv.Quote(s)
	}
	return s
}
