package cfg

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/maint/text"
)

func TestParseMode(t *testing.T) {
	tests := []struct {
		in  string
		typ ModeType
		msg string
	}{
		{`read-only`, ReadOnly, ""},
		{`offline,message=disk swap`, Offline, "disk swap"},
		{`type=offline,message="a \"b\", c"`, Offline, `a "b", c`},
		{`message=x,type=read-only`, ReadOnly, "x"},
		{`"offline",message="x"`, Offline, "x"},
		{`offline,message=a=b`, Offline, "a=b"},
		{`offline,message=say "hi"`, Offline, `say "hi"`},
		{`offline,message="a\\b"`, Offline, `a\b`},
		{`offline,message="a\nb"`, Offline, `a\nb`},
		{`offline,message=100%25 %41%c3%a4`, Offline, "100% Aä"},
		{`offline,message=50% off %zz %`, Offline, "50% off %zz %"},
		{`offline,message=%1b[2J`, Offline, `\x1b[2J`},
		{`offline,message=%ff`, Offline, "%ff"},
		{`offline,message=`, Offline, ""},
		{`offline,`, Offline, ""},
		{`delete`, Delete, ""},
		{`type=unmount`, Unmount, ""},
		{`s3-refresh,message=x`, S3Refresh, "x"},

		{``, Unknown, ""},
		{`,`, Unknown, ""},
		{`on-holiday`, Unknown, ""},
		{`OFFLINE`, Unknown, ""},
		{` offline`, Unknown, ""},
		{`offline,read-only`, Unknown, ""},
		{`offline,type=offline`, Unknown, ""},
		{`offline,message=a,message=b`, Unknown, ""},
		{`offline,message=a, b`, Unknown, ""},
		{`offline,color=red`, Unknown, ""},
		{`offline,message="a`, Unknown, ""},
		{`offline,message="a"b`, Unknown, ""},
		{`offline,message="a\`, Unknown, ""},
		{`offline,message="a\t"`, Unknown, ""},
		{`message=x`, Unknown, ""},
		{`=offline`, Unknown, ""},
	}
	for _, tt := range tests {
		got := parseMode(tt.in)
		if got.Type != tt.typ || got.Message != tt.msg {
			t.Errorf("parseMode(%q): got %q %q (%s), want %q %q", tt.in, got.Type, got.Message, got.Problem, tt.typ, tt.msg)
		}
		if (got.Type == Unknown) != (got.Problem != "") {
			t.Errorf("parseMode(%q): problem %q", tt.in, got.Problem)
		}
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	for _, msg := range []string{
		"", "disk swap", "a, b", `"quoted"`, `back\slash`, `\n`, "100%", "%41", "a=b", " spaces ", "\u00a0", ",", `"`, "ä€😀",
		strings.Repeat("x", 64), strings.Repeat("ä", 64),
	} {
		value, err := EncodeMode(Offline, msg)
		if err != nil {
			t.Errorf("encodeMode(%q): %v", msg, err)
			continue
		}
		file := "datastore: tank\n\tpath /srv\n\tmaintenance-mode " + value + "\n"
		if got := ParseConfig([]byte(file)).Mode("tank"); got.Type != Offline || got.Message != msg {
			t.Errorf("%q is written %q and read %+v", msg, value, got)
		}
	}
	for _, msg := range []string{"a\nb", "\x00", "\x7f", "\u0085", strings.Repeat("x", 65), strings.Repeat("%", 22), "\xff"} {
		if _, err := EncodeMode(Offline, msg); !errors.Is(err, ErrBadMessage) {
			t.Errorf("encodeMode(%q): got %v", msg, err)
		}
	}
	if got, _ := EncodeMode(Offline, "a, 5%"); got != `offline,message="a, 5%25"` {
		t.Errorf("got %s", got)
	}
}

func FuzzPropertyString(f *testing.F) {
	for _, s := range []string{"read-only", "offline,message=disk swap", `type=offline,message="a \"b\", c"`, `a="\n",b,`, "=,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m := parseMode(s)
		if m.Type == None || text.Printable(m.Message) != m.Message {
			t.Fatalf("%q: %+v", s, m)
		}
		props, err := parseProperties(s)
		if err != nil {
			return
		}
		var b strings.Builder
		for i, p := range props {
			if i > 0 {
				b.WriteByte(',')
			}
			if p.key != "" {
				b.WriteString(p.key + "=")
			}
			b.WriteString(`"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(p.value) + `"`)
		}
		again, err := parseProperties(b.String())
		if err != nil || !reflect.DeepEqual(again, props) {
			t.Fatalf("%q: %q, %v, then %q, %v", s, props, b.String(), again, err)
		}
	})
}
