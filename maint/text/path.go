package text

import (
	"strconv"
	"strings"
	"unicode"
)

// Path returns a path, or another name, as a part of a line: as it is, or in quotes if its
// end could not be told otherwise, or if not all of it can be printed.
func Path(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '\\' || unicode.IsSpace(r) || !shown(r, "")
	}) || strings.ContainsRune(",:;)", rune(s[len(s)-1])) {
		return strconv.Quote(s)
	}
	return s
}
