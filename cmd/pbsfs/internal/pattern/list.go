package pattern

// List is a list of patterns in the order in which they were given. The zero List chooses
// everything.
type List struct {
	patterns []Pattern
	takes    bool // a pattern may choose what lies in a directory that is not chosen
	first    bool // the first pattern says what to take
}

// Add adds a pattern at the end.
func (l *List) Add(p Pattern) {
	if len(l.patterns) == 0 {
		l.first = p.include
	}
	l.patterns = append(l.patterns, p)
	l.takes = l.takes || p.include
}

// Empty reports whether there is no pattern.
func (l *List) Empty() bool { return len(l.patterns) == 0 }

// Top reports whether the top is chosen, which no pattern is about.
func (l *List) Top() bool { return !l.first }

// Chosen reports whether the object at path is chosen, which is relative to the top and
// lies in a directory that is chosen or not.
func (l *List) Chosen(path string, isDir, above bool) bool {
	if l.Empty() {
		return above
	}
	path = latin1(path)
	for i := len(l.patterns) - 1; i >= 0; i-- {
		if p := l.patterns[i]; (isDir || !p.dirOnly) && p.match.MatchString(path) {
			return p.include
		}
	}
	return above
}

// LooksBelow reports whether something can be chosen in a directory that is not.
func (l *List) LooksBelow() bool { return l.takes }
