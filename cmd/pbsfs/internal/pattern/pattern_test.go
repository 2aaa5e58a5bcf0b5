package pattern

import (
	"strings"
	"testing"
)

func TestPatternsOfTheOfficialClient(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no string // paths; a directory ends with a slash
	}{
		{"a", "a b/a b/c/a a/", "ab ba a/b"},
		{"/a", "a a/", "b/a a/b"},
		{"a/", "a/ b/a/", "a b/a"},
		{"*.conf", "x.conf .conf etc/x.conf x.conf/", "x.config x.conf/y"},
		{"etc/*.conf", "etc/a.conf b/etc/a.conf", "etc/b/a.conf petc/a.conf"},
		{"/etc/*.conf", "etc/a.conf", "b/etc/a.conf"},
		{"?", "a b/c", "ab"},
		{"a?c", "abc a\xffc", "a/c ac"},
		{"ü", "ü", "\xc3"},
		{"??", "ü", "a"},
		{"\xff*", "\xff \xffa", "a\xff"},
		{"[a-c]x", "ax cx d/bx", "dx x [x"},
		{"[!a-c]x", "dx -x", "ax /x"},
		{"[^a-c]x", "dx", "ax"},
		{"[]]", "]", "["},
		{"[a-]", "a -", "b"},
		{`[\]]`, "]", `\`},
		{"[.-0]", ". 0", "/"},
		{`\*`, "*", "a"},
		{`\!a`, "!a", "a"},
		{"**/x", "x a/x a/b/x", "xx"},
		{"/**/x", "x a/x a/b/x", "ax"},
		{"/a/**", "a/b a/b/c", "a ab"},
		{"/a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb"},
		{"/a**b", "ab axb a/x/b", "b"},
		{"a.b", "a.b", "axb"},
		{"{a,b}", "{a,b}", "a b"},
		{"(a|b)+", "(a|b)+", "a"},
	} {
		p, err := Parse(c.pattern, true)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		var l List
		l.Add(p)
		for want, paths := range map[bool]string{true: c.yes, false: c.no} {
			for _, path := range strings.Fields(paths) {
				name, isDir := strings.CutSuffix(path, "/")
				if got := l.Of(name, isDir, Choice{}).Chosen; got != want {
					t.Errorf("%q and the path %q: got %v, want %v", c.pattern, path, got, want)
				}
			}
		}
	}
}

func TestWhatIsNoPattern(t *testing.T) {
	for _, bad := range []string{"", "/", "!", "!/", "[", "[a", "a[", "[]", "[!]", "[z-a]", "[a/b]", `a\`, "a\x00", strings.Repeat("a", 5000)} {
		if p, err := Parse(bad, true); err == nil {
			t.Errorf("%q is a pattern: %v", bad, p.match)
		} else if !strings.Contains(err.Error(), "pattern ") {
			t.Errorf("%q: %v, want the pattern to be named", bad, err)
		}
	}
}

func TestTheLastPatternThatMatchesDecides(t *testing.T) {
	for _, c := range []struct {
		patterns string // + takes, - leaves out
		top      bool
		yes, no  string
	}{
		{"", true, "a a/b", ""},
		{"-*.log", true, "a", "x.log d/x.log"},
		{"-*.log +keep.log", true, "a keep.log d/keep.log", "x.log"},
		{"-*.log -!keep.log", true, "a keep.log", "x.log"},
		{"+*.conf", false, "a.conf d/a.conf", "a d"},
		{"+etc +!etc/secret", false, "etc etc/a", "a etc/secret etc/secret/x"},
		{"+/etc -*.bak", false, "etc etc/a etc/b/c", "etc/a.bak x"},
		{"+*.conf -/sub/", false, "a.conf x/a.conf", "sub/a.conf sub/b/a.conf"},
		{"-/sub/ +*.conf", true, "a sub/a.conf sub/b/a.conf", "sub/b"},
		{"-d +d/x", true, "a d/x d/x/y", "d d/y"},
	} {
		var l List
		for _, text := range strings.Fields(c.patterns) {
			p, err := Parse(text[1:], text[0] == '+')
			if err != nil {
				t.Fatal(err)
			}
			l.Add(p)
		}
		if l.Top().Chosen != c.top {
			t.Errorf("%q: the top is chosen: %v, want %v", c.patterns, !c.top, c.top)
		}
		for want, paths := range map[bool]string{true: c.yes, false: c.no} {
			for _, path := range strings.Fields(paths) {
				if got := chosen(&l, path); got != want {
					t.Errorf("%q: %q is chosen: %v, want %v", c.patterns, path, got, want)
				}
			}
		}
	}
}

// chosen goes down to a path as one that walks a tree does.
func chosen(l *List, path string) bool {
	is := l.Top()
	names := strings.Split(path, "/")
	for i := range names {
		if !is.Chosen && !l.LooksBelow(is) {
			return false
		}
		is = l.Of(strings.Join(names[:i+1], "/"), i < len(names)-1, is)
	}
	return is.Chosen
}

func FuzzParse(f *testing.F) {
	f.Add("/a/**/[!x-z]?*\\b/", "a/b/c")
	f.Add("[", "\xff")
	f.Fuzz(func(t *testing.T, text, path string) {
		p, err := Parse(text, true)
		if err != nil {
			return
		}
		var l List
		l.Add(p)
		l.Of(path, true, l.Top())
	})
}
