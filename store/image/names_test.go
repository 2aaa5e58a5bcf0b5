package image

import (
	"errors"
	"io/fs"
	"testing"
)

func TestNames(t *testing.T) {
	var n Names
	for _, e := range []Entry{{"a", 1, Dir}, {"b", 2, Regular}} {
		if err := n.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "", ".", "..", "a/b", "a\x00"} {
		if err := n.Add(Entry{Name: name}); err == nil {
			t.Errorf("%q was added", name)
		}
	}
	torn := errors.New("torn")
	if e, err := n.Lookup("b", torn); err != nil || e.Number != 2 || n.Len() != 2 || len(n.Entries()) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := n.Lookup("c", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := n.Lookup("c", torn); !errors.Is(err, torn) {
		t.Error(err)
	}
}

func TestUTF16(t *testing.T) {
	for want, units := range map[string][]uint16{
		"":                       nil,
		"aü☃":                    {'a', 'ü', '☃'},
		"😀":                      {0xd83d, 0xde00},
		"\xed\xa0\xbda":          {0xd83d, 'a'},
		"\xed\xb8\x80":           {0xde00},
		"\xed\xa0\xbd":           {0xd83d},
		"\xed\xb8\x80\U0001f600": {0xde00, 0xd83d, 0xde00},
	} {
		if got := DecodeUTF16(units); got != want {
			t.Errorf("%x: %q, want %q", units, got, want)
		}
	}
}
