package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTableFitsTheTerminal(t *testing.T) {
	for _, test := range []struct {
		width int
		want  string
	}{
		{0, "tank  -        /mnt/datastore/with-a-long-name/tank\nß     offline  /x\n"},
		{80, "tank  -        /mnt/datastore/with-a-long-name/tank\nß     offline  /x\n"},
		{40, "tank  -        /mnt/datasto…ng-name/tank\nß     offline  /x\n"},
		{1, "tank  -        /mn…tank\nß     offline  /x\n"}, // as narrow as it gets
	} {
		tab := &table{width: test.width}
		tab.row("tank", "-", "/mnt/datastore/with-a-long-name/tank")
		tab.row("ß", "offline", "/x")
		var b strings.Builder
		if err := tab.print(&b); err != nil || b.String() != test.want {
			t.Errorf("width %d: got %v\n%swant\n%s", test.width, err, b.String(), test.want)
		}
	}
}

func TestShortenedHasTheWidth(t *testing.T) {
	for width := 1; width < 12; width++ {
		if got := shortened("äbcdefghij", width); utf8.RuneCountInString(got) != min(width, 10) {
			t.Errorf("width %d: got %q", width, got)
		}
	}
}
