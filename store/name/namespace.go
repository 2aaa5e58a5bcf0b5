package name

import (
	"errors"
	"fmt"
	"strings"
)

// MaxDepth is the depth of the deepest namespace; the root has depth 0.
const MaxDepth = 7

// maxNamespaceLen limits the a/b/c form of a namespace, slashes included.
const maxNamespaceLen = 256

// ErrInvalid matches every error of this package: text that is not a name.
var ErrInvalid = errors.New("invalid name")

// invalid returns an error that matches ErrInvalid.
func invalid(what, text, why string) error {
	return fmt.Errorf("%w: %s %q: %s", ErrInvalid, what, text, why)
}

// isSafeID reports whether s is a "safe id": letters, digits, '_', '.' and
// '-', not starting with '.' or '-'.
func isSafeID(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// Namespace is a namespace of a datastore. The zero value is the root.
type Namespace struct {
	path string // "a/b/c", "" for the root
}

// ParseNamespace reads the a/b/c form; "" is the root.
func ParseNamespace(s string) (Namespace, error) {
	var ns Namespace
	if s == "" {
		return ns, nil
	}
	for part := range strings.SplitSeq(s, "/") {
		child, err := ns.Child(part)
		if err != nil {
			return Namespace{}, err
		}
		ns = child
	}
	return ns, nil
}

// Child returns the namespace called component below ns.
func (ns Namespace) Child(component string) (Namespace, error) {
	switch {
	case !isSafeID(component):
		return Namespace{}, invalid("namespace", component, "want letters, digits, '_', '.' and '-', not starting with '.' or '-'")
	case ns.Depth() >= MaxDepth:
		return Namespace{}, invalid("namespace", component, fmt.Sprintf("nested deeper than %d levels", MaxDepth))
	case ns.path == "" && len(component) > maxNamespaceLen, ns.path != "" && len(ns.path)+len(component)+1 > maxNamespaceLen:
		return Namespace{}, invalid("namespace", component, fmt.Sprintf("path longer than %d bytes", maxNamespaceLen))
	}
	if ns.path == "" {
		return Namespace{path: component}, nil
	}
	return Namespace{path: ns.path + "/" + component}, nil
}

// IsRoot reports whether ns is the root namespace.
func (ns Namespace) IsRoot() bool { return ns.path == "" }

// Depth returns the number of components; 0 for the root.
func (ns Namespace) Depth() int {
	if ns.path == "" {
		return 0
	}
	return strings.Count(ns.path, "/") + 1
}

// Base returns the last component, "" for the root.
func (ns Namespace) Base() string { return ns.path[strings.LastIndexByte(ns.path, '/')+1:] }

// Parent returns the namespace that ns lies in; the root is its own parent.
func (ns Namespace) Parent() Namespace {
	i := strings.LastIndexByte(ns.path, '/')
	if i < 0 {
		return Namespace{}
	}
	return Namespace{path: ns.path[:i]}
}

// String returns the a/b/c form, "" for the root.
func (ns Namespace) String() string { return ns.path }

// Dir returns the directory of ns below the datastore: "ns/a/ns/b", "." for
// the root.
func (ns Namespace) Dir() string {
	if ns.path == "" {
		return "."
	}
	return "ns/" + strings.ReplaceAll(ns.path, "/", "/ns/")
}
