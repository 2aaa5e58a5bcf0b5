package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "etc", "tokens.json") }

func mustAdd(t *testing.T, path, name string, role Role) Credential {
	t.Helper()
	c, err := Add(path, name, role)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustOpen(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRolesIncludeThoseBefore(t *testing.T) {
	all := []Role{0, Audit, Read, Admin, Admin + 1}
	for _, r := range all {
		for _, need := range all {
			want := r >= need && need >= Audit && r <= Admin
			if got := r.May(need); got != want {
				t.Errorf("%v (%d) may %v (%d): %v, want %v", r, r, need, need, got, want)
			}
		}
	}
	for _, r := range all[1:4] {
		if got, err := ParseRole(r.String()); got != r || err != nil {
			t.Errorf("ParseRole(%v) = %v, %v", r, got, err)
		}
	}
	for _, text := range []string{"", "none", "Admin", "root"} {
		if r, err := ParseRole(text); err == nil {
			t.Errorf("ParseRole(%q) = %v, want an error", text, r)
		}
	}
}

func TestIDs(t *testing.T) {
	for text, want := range map[string]string{ // "" for a refusal
		"backup": "pbsfs@pbsfs!backup", "a.b-c_9": "pbsfs@pbsfs!a.b-c_9", "root@pam!t": "root@pam!t", "a!b@c@pbs!t": "a!b@c@pbs!t", "müller@ad!t": "müller@ad!t",
		strings.Repeat("ü", 60) + "@r!t": strings.Repeat("ü", 60) + "@r!t", strings.Repeat("n", 32): "pbsfs@pbsfs!" + strings.Repeat("n", 32),
		"": "", ".a": "", "-a": "", "a b": "", "a/b": "", "ä": "", "a:b": "", "root@pam": "", "root!t": "", "@pam!t": "", "u@!t": "", "u@r!": "",
		"u@r!t!t": "", "u v@r!t": "", "u:@r!t": "", "u/@r!t": "", "u\n@r!t": "", "u\x00@r!t": "", "u\u00a0@r!t": "", "u\xff@r!t": "", "u@r!t\n": "",
		strings.Repeat("u", 61) + "@r!t": "", strings.Repeat("n", 33): "", "u@" + strings.Repeat("n", 33) + "!t": "",
	} {
		id, err := ParseName(text)
		if (err == nil) != (want != "") || id.String() != want {
			t.Errorf("ParseName(%q) = %q, %v, want %q", text, id, err, want)
		}
		if err != nil && (!utf8.ValidString(err.Error()) || strings.Contains(err.Error(), "\x00")) {
			t.Errorf("ParseName(%q): the error has it as it is", text)
		}
	}
	if id, err := ParseID("backup"); err == nil {
		t.Errorf("ParseID of a bare name: %q, want an error", id)
	}
}

func TestCredentials(t *testing.T) {
	for text, ok := range map[string]bool{
		"u@r!t:secret": true, "u@r!t:a:b": true, "u@r!t:": false, "u@r!t": false, ":secret": false, "t:secret": false, "": false,
		"u@r!t:" + strings.Repeat("s", 256): true, "u@r!t:" + strings.Repeat("s", 257): false,
	} {
		c, err := ParseCredential(text)
		if (err == nil) != ok || ok && c.Text() != text {
			t.Errorf("ParseCredential(%.20q) = %q, %v, want it back: %v", text, c.Text(), err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "secret:") {
			t.Errorf("error %q", err)
		}
	}
}

func TestPrintedCredentialsHideTheSecret(t *testing.T) {
	c, err := ParseCredential("u@r!t:SECRET")
	if err != nil {
		t.Fatal(err)
	}
	type request struct{ cred Credential }
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "c", c, "s", c.Secret, "in", request{c})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "c", c, "s", c.Secret, "in", request{c}, "list", []Credential{c})
	inJSON, err := json.Marshal(map[string]any{"c": c, "p": &c})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(inJSON)
	for _, v := range []any{c, &c, c.Secret, &c.Secret, request{c}, &request{c}, []Credential{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			all += fmt.Sprintf(verb, v) + "\n"
		}
	}
	if strings.Contains(all, "SECRET") || strings.Contains(all, fmt.Sprintf("%x", "SECRET")) {
		t.Errorf("the secret is in\n%s", all)
	}
	if got := fmt.Sprint(c); got != "u@r!t:[hidden]" {
		t.Errorf("printed as %q", got)
	}
	if c.Text() != "u@r!t:SECRET" {
		t.Errorf("Text is %q", c.Text())
	}
}

func TestTokensAreAddedListedAndRemoved(t *testing.T) {
	path := newPath(t)
	before := time.Now()
	a, b := mustAdd(t, path, "one", Audit), mustAdd(t, path, "root@pam!two", Admin)
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("the file: %v, %v, want mode 0600", st.Mode(), err)
	}
	list, err := List(path)
	if err != nil || len(list) != 2 || list[0].ID != a.ID || list[1].ID != b.ID || list[0].Role != Audit || list[1].Role != Admin {
		t.Fatalf("List = %v, %v", list, err)
	}
	if made := list[0].Created; made.Before(before) || made.After(time.Now()) {
		t.Errorf("created at %v, want now", made)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte(a.Secret.Text())) || len(a.Secret.Text()) < 26 || a.Secret.Text() == b.Secret.Text() {
		t.Errorf("secrets %q and %q, file %s, %v", a.Secret.Text(), b.Secret.Text(), text, err)
	}
	if _, err := Add(path, "pbsfs@pbsfs!one", Read); !errors.Is(err, ErrExists) {
		t.Errorf("the same ID again: %v, want ErrExists", err)
	}
	for _, role := range []Role{0, Admin + 1} {
		if _, err := Add(path, "three", role); err == nil {
			t.Errorf("a token with role %d was made", role)
		}
	}
	if err := Remove(path, "one"); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path, "one"); !errors.Is(err, ErrUnknown) {
		t.Errorf("removed twice: %v, want ErrUnknown", err)
	}
	if list, err := List(path); err != nil || len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("List = %v, %v, want the second", list, err)
	}
}

func TestWithoutAFile(t *testing.T) {
	path := newPath(t)
	_, openErr := Open(path)
	_, listErr := List(path)
	for what, err := range map[string]error{"Open": openErr, "List": listErr, "Remove": Remove(path, "one")} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrNotExist with the path", what, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestAddsAtOnceAllCount(t *testing.T) {
	path := newPath(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := Add(path, fmt.Sprint("t", i), Read); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := List(path); err != nil || len(list) != 8 {
		t.Errorf("%d tokens, %v, want 8", len(list), err)
	}
}

func TestCheck(t *testing.T) {
	path := newPath(t)
	a, b := mustAdd(t, path, "a", Audit), mustAdd(t, path, "b", Admin)
	f := mustOpen(t, path)
	for _, c := range []Credential{a, b} {
		if tok, err := f.Check(c); err != nil || tok.ID != c.ID {
			t.Errorf("Check(%v) = %v, %v", c, tok, err)
		}
	}
	none, err := ParseID("no@such!token")
	if err != nil {
		t.Fatal(err)
	}
	empty := ""
	for what, c := range map[string]Credential{
		"zero": {}, "no secret": {ID: a.ID}, "empty secret": {ID: a.ID, Secret: Secret{&empty}}, "no id": {Secret: a.Secret},
		"secret of another": {ID: a.ID, Secret: b.Secret}, "unknown id": {ID: none, Secret: a.Secret},
	} {
		if tok, err := f.Check(c); !errors.Is(err, ErrWrong) || tok != (Token{}) {
			t.Errorf("%s: %v, %v, want ErrWrong", what, tok, err)
		}
	}
}

func TestChangesCountAtOnce(t *testing.T) {
	path := newPath(t)
	a := mustAdd(t, path, "a", Audit)
	f := mustOpen(t, path)
	was, err := f.Find(a.ID)
	if err != nil || was.Role != Audit {
		t.Fatalf("Find = %v, %v", was, err)
	}
	b := mustAdd(t, path, "b", Read)
	if tok, err := f.Check(b); err != nil || tok.Role != Read {
		t.Errorf("a token that was added: %v, %v", tok, err)
	}
	if err := Remove(path, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Check(a); !errors.Is(err, ErrWrong) {
		t.Errorf("a token that was removed: %v, want ErrWrong", err)
	}
	if _, err := f.Find(a.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("a session of it: %v, want ErrUnknown", err)
	}
	again := mustAdd(t, path, "a", Audit)
	if _, err := f.Check(a); !errors.Is(err, ErrWrong) {
		t.Errorf("the old secret of a token that was made anew: %v, want ErrWrong", err)
	}
	if now, err := f.Find(again.ID); err != nil || now == was {
		t.Errorf("a session can't tell that the token was made anew: %v, %v", now, err)
	}
}

// Whatever happens to the file, no token is valid until it is in order again.
func TestNothingIsValidWithoutTheFile(t *testing.T) {
	path := newPath(t)
	a := mustAdd(t, path, "a", Admin)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path)
	restore := func() {
		os.RemoveAll(path)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string) func() error { return func() error { return os.WriteFile(path, []byte(text), 0o600) } }
	for what, spoil := range map[string]struct {
		do   func() error
		want error
		text string
	}{
		"read by the group":   {func() error { return os.Chmod(path, 0o640) }, ErrExposed, "chmod 600 " + path},
		"read by others":      {func() error { return os.Chmod(path, 0o604) }, ErrExposed, "chmod 600 " + path},
		"written by others":   {func() error { return os.Chmod(path, 0o602) }, ErrExposed, "chmod 600 " + path},
		"gone":                {func() error { return os.Remove(path) }, fs.ErrNotExist, "add a token"},
		"empty":               {write(""), nil, "cannot be used"},
		"cut off":             {write(string(good[:len(good)/2])), nil, "cannot be used"},
		"too large":           {write(strings.Repeat(" ", maxFile) + string(good)), nil, "larger"},
		"a directory":         {func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, nil, "regular"},
		"a pipe":              {func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, nil, "regular"},
		"a link to the file":  {func() error { return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)) }, nil, "symbolic link"},
		"of another's making": {func() error { return os.Chown(path, 4711, -1) }, ErrExposed, "user 4711"},
	} {
		t.Run(what, func(t *testing.T) {
			if strings.HasPrefix(what, "of another") && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			if err := spoil.do(); err != nil {
				t.Fatal(err)
			}
			_, checkErr := f.Check(a)
			_, findErr := f.Find(a.ID)
			_, openErr := Open(path)
			for what, err := range map[string]error{"Check": checkErr, "Find": findErr, "Open": openErr} {
				if err == nil || errors.Is(err, ErrWrong) || spoil.want != nil && !errors.Is(err, spoil.want) {
					t.Errorf("%s: %v, want %v", what, err, spoil.want)
					continue
				}
				if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), spoil.text) {
					t.Errorf("%s: %v, want the path and %q", what, err, spoil.text)
				}
			}
			if what != "gone" {
				if _, err := Add(path, "more", Read); err == nil {
					t.Error("a token was added")
				}
			}
			restore()
			if _, err := f.Check(a); err != nil {
				t.Errorf("the file is in order again: %v", err)
			}
		})
	}
}

func TestWhatIsNoTokenFile(t *testing.T) {
	path := newPath(t)
	mustAdd(t, path, "a", Admin)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	if c, err := parse(text); err != nil || len(c.Tokens) != 1 {
		t.Fatalf("%s: %v", good, err)
	}
	one := strings.TrimSuffix(strings.TrimPrefix(good, "{\n  \"tokens\": ["), "]\n}\n")
	for what, text := range map[string]string{
		"unknown role": strings.Replace(good, `"admin"`, `"root"`, 1), "no role": strings.Replace(good, `"admin"`, "null", 1),
		"restriction of a later version": strings.Replace(good, `"role"`, `"expires":"2020-01-01","role"`, 1),
		"bare name":                      strings.Replace(good, "pbsfs@pbsfs!a", "a", 1), "short hash": strings.Replace(good, `"sha256": "`, `"sha256": "","salt": "`, 1),
		"twice": `{"tokens":[` + one + "," + one + "]}", "more": good + "{}", "list": "[]", "no object": "true",
	} {
		if c, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: %v, want an error", what, c)
		}
	}
}

func TestUseAtOnce(t *testing.T) {
	path := newPath(t)
	a := mustAdd(t, path, "a", Admin)
	f := mustOpen(t, path)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if _, err := f.Check(a); err != nil {
					t.Error(err)
				}
				if _, err := f.Find(a.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		mustAdd(t, path, fmt.Sprint("t", i), Read)
	}
	all.Wait()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"tokens":[{"id":"u@r!t","role":"read","created":"2024-01-01T00:00:00Z","salt":"AAAAAAAAAAAAAAAAAAAAAA==","sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if err != nil {
			return
		}
		for i := range c.Tokens {
			e := &c.Tokens[i]
			if _, err := ParseID(e.ID.String()); err != nil || !e.Role.May(Audit) {
				t.Errorf("token %q with role %v", e.ID, e.Role)
			}
			e.has(Secret{})
		}
		out, err := c.text()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parse(out); err != nil || len(again.Tokens) != len(c.Tokens) {
			t.Errorf("%q became %q: %v", text, out, err)
		}
	})
}

func FuzzParseCredential(f *testing.F) {
	f.Add("u@r!t:secret")
	f.Add("a!b@c@r!t:s:s")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCredential(text)
		if err == nil && (c.Text() != text || strings.Contains(c.ID.String(), ":")) {
			t.Errorf("%q became %q", text, c.Text())
		}
	})
}
