package name

// Type is the type of a backup: vm, ct or host.
type Type string

// The backup types. A datastore has one directory for each that is in use.
const (
	VM   Type = "vm"
	CT   Type = "ct"
	Host Type = "host"
)

// Types lists the backup types in the order a datastore shows them.
func Types() []Type { return []Type{CT, Host, VM} }

// ParseType reads a backup type.
func ParseType(s string) (Type, error) {
	switch t := Type(s); t {
	case VM, CT, Host:
		return t, nil
	}
	return "", invalid("backup type", s, "want vm, ct or host")
}

// Group is a backup group: the snapshots of one guest or host.
type Group struct {
	ns  Namespace
	typ Type
	id  string
}

// NewGroup returns the group of that type and id in ns.
func NewGroup(ns Namespace, typ Type, id string) (Group, error) {
	if _, err := ParseType(string(typ)); err != nil {
		return Group{}, err
	}
	if !isSafeID(id) || len(id) > maxFileName {
		return Group{}, invalid("backup id", id, "want letters, digits, '_', '.' and '-', not starting with '.' or '-'")
	}
	return Group{ns: ns, typ: typ, id: id}, nil
}

// Namespace returns the namespace the group lies in.
func (g Group) Namespace() Namespace { return g.ns }

// Type returns the group's backup type.
func (g Group) Type() Type { return g.typ }

// ID returns the group's backup id.
func (g Group) ID() string { return g.id }

// String returns the group's directory below the datastore without a leading
// "./", which is also its path below a mount point: "ns/prod/host/alpha".
func (g Group) String() string { return g.Dir() }

// Dir returns the group's directory below the datastore.
func (g Group) Dir() string {
	rel := string(g.typ) + "/" + g.id
	if g.ns.IsRoot() {
		return rel
	}
	return g.ns.Dir() + "/" + rel
}
