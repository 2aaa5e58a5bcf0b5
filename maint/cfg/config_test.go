package cfg

import (
	"bytes"
	"strings"
	"testing"
)

func TestConfigMode(t *testing.T) {
	tests := []struct {
		name, file string
		want       ModeType
	}{
		{"empty", "", None},
		{"not listed", "datastore: other\n\tmaintenance-mode offline\n", None},
		{"plain", "datastore: tank\n\tpath /x\n\tmaintenance-mode offline\n", Offline},
		{"no last newline", "datastore: tank\n\tmaintenance-mode offline", Offline},
		{"spaces", "datastore:tank  \n  maintenance-mode \t offline  \n", Offline},
		{"windows", "datastore: tank\r\n\tmaintenance-mode offline\r\n", Offline},
		{"unknown keys and sections", "sync: tank\n\tmaintenance-mode read-only\n\ndatastore: tank\n\tfrobnicate 1\n\tmaintenance-mode offline\n", Offline},
		{"comment", "# mine\ndatastore: tank\n#\tmaintenance-mode offline\n\tpath /x\n", None},
		{"key is a prefix", "datastore: tank\n\tmaintenance-mode-x offline\n", None},
		{"no value", "datastore: tank\n\tmaintenance-mode\n", Unknown},
		{"twice", "datastore: tank\n\tmaintenance-mode offline\n\tmaintenance-mode read-only\n", Unknown},
		{"section twice", "datastore: tank\n\tpath /x\n\ndatastore: tank\n\tpath /y\n", Unknown},
		{"property of nobody", "datastore: tank\n\tpath /x\n\n\tmaintenance-mode offline\n", Unknown},
		{"mangled header", "datastore tank\n\tmaintenance-mode offline\n", Unknown},
		{"another's broken mode", "datastore: other\n\tmaintenance-mode ???\n\ndatastore: tank\n\tpath /x\n", None},
	}
	for _, tt := range tests {
		if got := ParseConfig([]byte(tt.file)).Mode("tank"); got.Type != tt.want {
			t.Errorf("%s: got %+v, want %q", tt.name, got, tt.want)
		}
	}
}

func TestEditKeepsEveryOtherByte(t *testing.T) {
	tests := []struct{ name, before, set, cleared string }{
		{
			"added after the last property",
			"datastore: a\n\tpath /a\n\ndatastore: tank\n\tpath  /x \n    comment  odd\tspace \n\n\ndatastore: z\n\tpath /z\n",
			"datastore: a\n\tpath /a\n\ndatastore: tank\n\tpath  /x \n    comment  odd\tspace \n\tmaintenance-mode offline\n\n\ndatastore: z\n\tpath /z\n",
			"",
		},
		{
			"replaced in place",
			"datastore: tank\n  maintenance-mode   read-only,message=x  \n\tpath /x\n\tfuture yes\n",
			"datastore: tank\n  maintenance-mode   offline\n\tpath /x\n\tfuture yes\n",
			"datastore: tank\n\tpath /x\n\tfuture yes\n",
		},
		{"no last newline", "datastore: tank\n\tpath /x", "datastore: tank\n\tpath /x\n\tmaintenance-mode offline", "datastore: tank\n\tpath /x\n"},
		{"header alone", "datastore: tank", "datastore: tank\n\tmaintenance-mode offline", "datastore: tank\n"},
		{"windows", "datastore: tank\r\n\tpath /x\r\n", "datastore: tank\r\n\tpath /x\r\n\tmaintenance-mode offline\r\n", ""},
		{"comment between", "datastore: tank\n\tpath /x\n# note\n", "datastore: tank\n\tpath /x\n\tmaintenance-mode offline\n# note\n", ""},
	}
	for _, tt := range tests {
		set, err := ParseConfig([]byte(tt.before)).SetMode("tank", "offline")
		if err != nil || string(set) != tt.set {
			t.Errorf("%s: got %q, %v, want %q", tt.name, set, err, tt.set)
		}
		want := tt.cleared
		if want == "" {
			want = tt.before
		}
		cleared, err := ParseConfig(set).SetMode("tank", "")
		if err != nil || string(cleared) != want {
			t.Errorf("%s, cleared: got %q, %v, want %q", tt.name, cleared, err, want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("datastore: tank\n\tcomment my disk\n\tpath /srv/tank\n"))
	f.Add([]byte("datastore: tank\r\n\tmaintenance-mode read-only,message=\"a, b\"\r\n"))
	f.Add([]byte("datastore: tank"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := ParseConfig(data)
		if !bytes.Equal(c.Bytes(), data) {
			t.Fatalf("%q is %q after parsing", data, c.Bytes())
		}
		for _, s := range c.Sections {
			c.Datastore(s, "x")
		}
		out, err := c.SetMode("tank", `offline,message="a, b"`)
		if err != nil {
			return
		}
		if m := ParseConfig(out).Mode("tank"); c.Problem == "" && (m.Type != Offline || m.Message != "a, b") {
			t.Fatalf("%q: set, and then %q says %+v", data, out, m)
		}
		if diff := len(strings.Split(string(out), "\n")) - len(strings.Split(string(data), "\n")); diff < 0 || diff > 1 {
			t.Fatalf("%q became %q", data, out)
		}
		if _, err := ParseConfig(out).SetMode("tank", ""); err != nil {
			t.Fatalf("%q cannot be cleared: %v", out, err)
		}
	})
}
