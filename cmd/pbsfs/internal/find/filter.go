package find

import (
	"path"
	"regexp"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"
)

// State is what tells one version of a file from another. Of what lies in archives it is
// type, size and time, and, if the search looks at metadata, permissions and owner. Of
// what lies beside archives it is type, size and content.
type State struct {
	Type        uint32 // S_IFMT bits
	Size, Mtime int64  // of regular files, in bytes and seconds since the epoch
	// Known says that what follows is known.
	Known          bool
	Mode, UID, GID uint32

	content [32]byte
}

// Filter says which files are searched for. The zero Filter finds all.
type Filter struct {
	// Names are patterns for the last name of the path; one must match.
	Names []Name
	// Paths are patterns for the path below the archive, with "**" for any number of
	// directories; one must match.
	Paths []string
	// Regex must match the whole path below the archive.
	Regex *regexp.Regexp
	// Types are S_IFMT bits, of which one must be the file's.
	Types []uint32
	// Metadata holds what must be true of size and time, which only regular files have,
	// and of owner and permissions.
	Metadata []func(State) bool
	// Owned says that Metadata looks at owner or permissions, which catalogs do not have.
	Owned bool
	// Regular says that only regular files can match.
	Regular bool
}

// Name is a pattern for a name.
type Name struct {
	Glob string
	Fold bool // whether upper and lower case are the same
}

// CheckGlob reports whether a pattern is one.
func CheckGlob(glob string) bool { return doublestar.ValidatePattern(glob) }

// named reports whether the path of a file matches. below is the path below the archive,
// or the name of what is none.
func (f *Filter) named(below string) bool {
	return f.base(path.Base(below)) && f.path(below) && (f.Regex == nil || f.Regex.MatchString(below))
}

func (f *Filter) base(name string) bool {
	for _, p := range f.Names {
		glob, n := p.Glob, name
		if p.Fold {
			glob, n = strings.ToLower(glob), strings.ToLower(name)
		}
		if ok, err := doublestar.Match(glob, n); ok && err == nil {
			return true
		}
	}
	return len(f.Names) == 0
}

func (f *Filter) path(below string) bool {
	for _, p := range f.Paths {
		if ok, err := doublestar.Match(p, below); ok && err == nil {
			return true
		}
	}
	return len(f.Paths) == 0
}

// typed reports whether the type of a file matches.
func (f *Filter) typed(typ uint32) bool {
	if f.Regular && typ != unix.S_IFREG {
		return false
	}
	for _, t := range f.Types {
		if t == typ {
			return true
		}
	}
	return len(f.Types) == 0
}

// has reports whether a state matches. Its path and type do.
func (f *Filter) has(s State) bool {
	for _, fn := range f.Metadata {
		if !fn(s) {
			return false
		}
	}
	return true
}
