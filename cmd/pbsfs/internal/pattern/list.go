package pattern

// List is a list of patterns in the order in which they were given. The zero List chooses
// everything.
type List struct {
	patterns []Pattern
}

// Choice says whether an object is chosen, and which pattern has decided that.
type Choice struct {
	Chosen bool
	by     int // the number of the pattern, from 1; 0 if none has
}

// Add adds a pattern at the end.
func (l *List) Add(p Pattern) { l.patterns = append(l.patterns, p) }

// Top returns the choice of the top, which no pattern is about.
func (l *List) Top() Choice {
	return Choice{Chosen: len(l.patterns) == 0 || !l.patterns[0].include}
}

// Of returns the choice of the object at path, which is relative to the top. above is the
// choice of the directory that it lies in.
func (l *List) Of(path string, isDir bool, above Choice) Choice {
	if len(l.patterns) == above.by {
		return above // no pattern comes after that one
	}
	path = latin1(path)
	for i := len(l.patterns); i > above.by; i-- {
		if p := l.patterns[i-1]; (isDir || !p.dirOnly) && p.match.MatchString(path) {
			return Choice{p.include, i}
		}
	}
	return above
}

// LooksBelow reports whether something can be chosen below a directory that is not.
func (l *List) LooksBelow(c Choice) bool {
	for _, p := range l.patterns[c.by:] {
		if p.include {
			return true
		}
	}
	return false
}
