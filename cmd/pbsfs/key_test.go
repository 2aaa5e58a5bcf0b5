package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/storetest"
)

const (
	plainKeyText = `{"kdf":null,"created":"2024-06-05T16:24:36+02:00","modified":"2024-06-05T16:24:36+02:00",` +
		`"data":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`
	sealedKeyText = `{"kdf":{"PBKDF2":{"iter":7,"salt":"c2FsdCBvZiBwYmtkZjI="}},"created":"","modified":"","hint":"tiny",` +
		`"data":"8PHy8/T19vf4+fr7/P3+/5h3sp3nxNRqvur7iuaxacs3WOp1BokZLxwRyELKWwrxxQoETtTjnu2pSa59/EyiXQ=="}`
)

// writeSecret writes a file for its owner only, and returns its path.
func writeSecret(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyCommands(t *testing.T) {
	config := t.TempDir()
	writeSecret(t, config, "proxmox-backup/encryption-key.json", plainKeyText)
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", "2023-11-14T12:00:00Z")
	sn.Finish()
	sealed := writeSecret(t, t.TempDir(), "sealed.json", sealedKeyText)
	text, err := os.ReadFile("../../store/keys/testdata/pkcs8.pem")
	if err != nil {
		t.Fatal(err)
	}
	master := writeSecret(t, t.TempDir(), "master.pem", string(text))
	for _, c := range []struct {
		args   []string
		code   int
		stdout string // all of it, if not ""
		stderr string // in it
	}{
		{[]string{"key"}, 2, "", "say create, list"},
		{[]string{"key", "frob"}, 2, "", ""},
		{[]string{"key", "show"}, 2, "", "usage:"},
		{[]string{"key", "show", sealed}, 0, "fingerprint: \nkdf: pbkdf2\ncreated: \nmodified: \nhint: tiny\n", ""},
		{[]string{"key", "show", "/no/such/file"}, 6, "", "no such file"},
		{[]string{"key", "list", "x"}, 2, "", "usage:"},
		{[]string{"key", "list"}, 0, "  none  " + filepath.Join(config, "proxmox-backup", "encryption-key.json") + "\n", ""},
		{[]string{"key", "add", "/mnt"}, 2, "", "--keyfile"},
		{[]string{"key", "add", "/no/mount", "--keyfile", sealed}, 1, "", "not mounted"},
		{[]string{"key", "recover", s.Dir, "host/alpha/latest"}, 2, "", "--master-keyfile"},
		{[]string{"key", "recover", s.Dir, "host/alpha/latest", "--master-keyfile", "/no/such/file"}, 6, "", "no such file"},
		{[]string{"key", "recover", s.Dir, "host/alpha/latest", "--master-keyfile", master}, 1, "", "not backed up with a master key"},
		{[]string{"key", "recover", s.Dir, "host/alpha", "--master-keyfile", master}, 1, "", "not a snapshot"},
		{[]string{"key", "recover", s.Dir, "host/none/latest", "--master-keyfile", master}, 1, "", "host/none"},
	} {
		a, stdout, stderr := newApp(t, "")
		inner := a.getenv
		a.getenv = func(name string) string {
			if strings.HasPrefix(name, "XDG_") {
				return config
			}
			return inner(name)
		}
		code := a.run(t, c.args...)
		if code != c.code || !strings.Contains(stderr.String(), c.stderr) || c.stdout != "" && stdout.String() != c.stdout {
			t.Errorf("pbsfs %q: exit %d, %q, %q, want %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
		if code != 0 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("pbsfs %q: message %q is not one line", c.args, stderr)
		}
	}
}

func TestKeyShowJSON(t *testing.T) {
	a, stdout, _ := newApp(t, "")
	file := writeSecret(t, t.TempDir(), "sealed.json", sealedKeyText)
	if code := a.run(t, "key", "show", "--json", file); code != 0 {
		t.Fatalf("exit %d", code)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"file": file, "kdf": "pbkdf2", "created": "", "modified": "", "hint": "tiny"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
