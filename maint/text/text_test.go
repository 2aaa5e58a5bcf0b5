package text

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"plain text, ünïcödé 漢字 🙂":     "plain text, ünïcödé 漢字 🙂",
		"a\x1b[2Jb":                    `a\x1b[2Jb`,
		"a\nb\rc\td":                   `a\nb\rc\td`,
		"\x00\x07\x7f":                 `\x00\x07\x7f`,
		"\xff\xc3(":                    `\xff\xc3(`,
		"\u009b31m":                    `\u009b31m`,
		"a\u202eb\u2066c\u200fd\u2028": `a\u202eb\u2066c\u200fd\u2028`,
		"\ufffd":                       `\ufffd`,
		"\U000e0041":                   `\U000e0041`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	const in = "a\tü漢🙂\n\x1b[31m\u202e\xff\xe6\xbc"
	const want = "a\tü漢🙂\n\\x1b[31m\\u202e\\xff"
	for size := 1; size <= len(in); size++ {
		var b strings.Builder
		w := NewWriter(&b)
		for i := 0; i < len(in); i += size {
			part := in[i:min(i+size, len(in))]
			if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
		}
		if got := b.String(); got != want {
			t.Errorf("in pieces of %d: got %q, want %q", size, got, want)
		}
	}
	var b strings.Builder
	if Raw(NewWriter(&b)) != &b || Raw(&b) != &b {
		t.Error("Raw: got another writer")
	}
}

func TestJSON(t *testing.T) {
	for _, s := range []string{"plain", "a\u202eb", "\u009b2J", "\x7f", "\U000e0041 🙂", "\ufffd", "\xff", "\x1b\n"} {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		out := JSON(append(text, '\n'))
		if json.Unmarshal(text, &want) != nil || json.Unmarshal(out, &got) != nil || got != want {
			t.Errorf("%q: got %s, which is %q", s, out, got)
		}
		if shown := Printable(strings.TrimSuffix(string(out), "\n")); !strings.Contains(s, "\ufffd") && s != "\xff" && shown+"\n" != string(out) {
			t.Errorf("%q: got %q, which is not printable", s, out)
		}
	}
}
