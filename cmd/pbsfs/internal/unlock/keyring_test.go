package unlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/store/keys"
)

// Key files with the bytes 00 01 … 1f: as it is, and protected by keyPass.
const (
	openKey = `{"kdf":null,"created":"2024-06-05T16:24:36+02:00","modified":"2024-06-05T16:24:36+02:00",` +
		`"data":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`
	lockedKey = `{"kdf":{"PBKDF2":{"iter":7,"salt":"c2FsdCBvZiBwYmtkZjI="}},"created":"","modified":"","hint":"tiny",` +
		`"data":"8PHy8/T19vf4+fr7/P3+/5h3sp3nxNRqvur7iuaxacs3WOp1BokZLxwRyELKWwrxxQoETtTjnu2pSa59/EyiXQ=="}`
	keyPass = "small pass"
)

// What kinds of errors there are.
const (
	wrongUsage = iota + 1
	wrongKey
	wrong
)

func kindOf(err error) int {
	var onCommandLine *usage.Error
	var ofKey *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &onCommandLine):
		return wrongUsage
	case errors.As(err, &ofKey):
		return wrongKey
	}
	return wrong
}

// write writes a file for its owner only, and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseKeySpec(t *testing.T) {
	for arg, want := range map[string]*keySpec{ // nil: refused
		"/k.json":                            {file: "/k.json"},
		"k,1.json":                           {file: "k,1.json"},
		"k,password=x":                       {file: "k,password=x"},
		"/k,password-file=/p":                {file: "/k", passwordFile: "/p"},
		"/k,password-file=/p,q=1":            {file: "/k", passwordFile: "/p,q=1"},
		"/k,password-cmd=pass show pbs":      {file: "/k", passwordCmd: "pass show pbs"},
		"/k,password-cmd=a ,password-file=b": {file: "/k", passwordCmd: "a ,password-file=b"},
		"":                                   nil,
		",password-file=/p":                  nil,
		",password-cmd=x":                    nil,
		"/k,password-file=":                  nil,
		"/k,password-cmd=":                   nil,
		"/k,password-file=/p,password-cmd=x": nil,
	} {
		got, err := parseKeySpec(arg)
		switch {
		case want == nil && kindOf(err) != wrongUsage:
			t.Errorf("--keyfile %q: %+v, %v, want a usage error", arg, got, err)
		case want != nil && (err != nil || got != *want):
			t.Errorf("--keyfile %q: %+v, %v, want %+v", arg, got, err, *want)
		}
	}
}

// inherited returns the number of a descriptor that reads text, as a parent
// leaves one, and that nothing else closes.
func inherited(t *testing.T, text string) string {
	t.Helper()
	f, err := os.Open(write(t, "fd", text))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fd)
}

// The first source that is defined counts, whatever it gives.
func TestOrderOfPassphrases(t *testing.T) {
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, keyCredential), []byte("credential\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const none = "\x00not set"
	file := write(t, "file", "file\r\nsecond\n")
	for _, c := range []struct {
		name string
		vars map[string]string // "FD" is the number of a descriptor that reads the text
		want string            // none: no source; "error": one that fails
	}{
		{"nothing", nil, none},
		{"value", map[string]string{"": "value", "_FD": "fd", "_FILE": file, "_CMD": "echo cmd", "dir": credentials}, "value"},
		{"value, first line", map[string]string{"": "value\nsecond"}, "value"},
		{"value with spaces", map[string]string{"": " value "}, " value "},
		{"value, empty, is defined", map[string]string{"": "", "_FD": "fd", "_FILE": file}, ""},
		{"descriptor", map[string]string{"_FD": "fd\nsecond", "_FILE": file, "_CMD": "echo cmd"}, "fd"},
		{"descriptor, empty", map[string]string{"_FD": "", "_FILE": file}, ""},
		{"file", map[string]string{"_FILE": file, "_CMD": "echo cmd", "dir": credentials}, "file"},
		{"file that is not there", map[string]string{"_FILE": "/no/such/file", "_CMD": "echo cmd"}, "error"},
		{"no name of a file", map[string]string{"_FILE": ""}, "error"},
		{"file without end", map[string]string{"_FILE": "/dev/zero"}, "error"},
		{"command", map[string]string{"_CMD": `printf 'cmd of "words"\nsecond'`, "dir": credentials}, `cmd of "words"`},
		{"command without a shell", map[string]string{"_CMD": `echo '$HOME; x' "a b" c`}, "$HOME; x a b c"},
		{"command that fails", map[string]string{"_CMD": "false", "dir": credentials}, "error"},
		{"command that is not there", map[string]string{"_CMD": "/no/such/program"}, "error"},
		{"command of no words", map[string]string{"_CMD": ""}, "error"},
		{"command with an open quote", map[string]string{"_CMD": "echo 'x"}, "error"},
		{"credential, all of it", map[string]string{"dir": credentials}, "credential\n"},
		{"credential of others", map[string]string{"dir": t.TempDir()}, none},
	} {
		for _, name := range []string{KeyPassword, MasterPassword} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				for _, suffix := range []string{"", "_FD", "_FILE", "_CMD"} {
					unset(t, name+suffix)
				}
				unset(t, "CREDENTIALS_DIRECTORY")
				fd := ""
				for suffix, value := range c.vars {
					switch suffix {
					case "_FD":
						fd = inherited(t, value)
						t.Setenv(name+suffix, fd)
					case "dir":
						t.Setenv("CREDENTIALS_DIRECTORY", value)
					default:
						t.Setenv(name+suffix, value)
					}
				}
				want := c.want
				if len(c.vars) == 1 && c.vars["dir"] != "" && name == MasterPassword {
					want = none // systemd's name is that of data keys
				}
				p := &Passphrases{Keyring: &Keyring{}, Name: name}
				for range 2 { // the second time, what can be read once is remembered
					value, set, err := p.fromEnv(t.Context())
					if (err != nil) != (want == "error") || set != (want != none) {
						t.Fatalf("got %q, %v, %v, want %q", value, set, err, want)
					}
					if err == nil && set && string(value) != want {
						t.Errorf("got %q, want %q", value, want)
					}
				}
				if fd != "" && c.want == "fd" {
					if _, err := os.Stat("/proc/self/fd/" + fd); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("descriptor %s is still open: %v", fd, err)
					}
				}
			})
		}
	}
	for _, bad := range []string{"x", "-1", "1.5", "99999999999"} {
		if _, err := fromDescriptor(bad); err == nil {
			t.Errorf("descriptor %q was read", bad)
		}
	}
	if _, err := fromDescriptor("1048000"); err == nil {
		t.Error("a descriptor that is not open was read")
	}
}

// unset takes a variable away until the test ends.
func unset(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "")
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutPassphrases(t *testing.T) {
	kept := []string{"HOME=/root", "PATH=/bin", "PBS_REPOSITORY=x", "PBSFS_RUN_DIR=/run", "MY_PASSWORD=mine", "PBSFS_KEYS_FD=4", "PBS=PASSWORD", "=x"}
	gone := []string{
		"PBS_PASSWORD=x", "PBS_PASSWORD_FILE=/x", "PBS_PASSWORD_CMD=x", "PBS_PASSWORD_FD=5",
		"PBS_ENCRYPTION_PASSWORD=x=y", "PBS_ENCRYPTION_PASSWORD=", "PBS_ENCRYPTION_PASSWORD_FD=5",
		"PBS_ENCRYPTION_PASSWORD_FILE=/x", "PBS_ENCRYPTION_PASSWORD_CMD=x", "PBS_LATER_PASSWORD_X=x",
		"PBSFS_MASTER_KEY_PASSWORD=x", "PBSFS_MASTER_KEY_PASSWORD_FD=5", "PBSFS_MASTER_KEY_PASSWORD_FILE=x", "PBSFS_MASTER_KEY_PASSWORD_CMD=x",
	}
	got := WithoutPassphrases(append(slices.Clone(gone), kept...))
	if !slices.Equal(got, kept) {
		t.Errorf("got %q, want %q", got, kept)
	}
}

// keyPlaces is where the official client looks for its key.
func TestDefaultKeyPlaces(t *testing.T) {
	at := func(dir string) string { return filepath.Join(dir, "proxmox-backup", "encryption-key.json") }
	home, config, first, second := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	a := &Keyring{Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": config, "XDG_CONFIG_DIRS": "relative:" + first + ":" + second}[name]
	}}
	plain := &Keyring{Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_DIRS": first}[name]
	}}
	relative := &Keyring{Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": ".", "XDG_CONFIG_DIRS": first}[name]
	}}
	check := func(what string, k *Keyring, want ...string) {
		t.Helper()
		if got := k.DefaultFiles(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("nowhere", a)
	place(t, at(second))
	check("second of the others", a, at(second))
	place(t, at(first))
	check("first of the others", a, at(first))
	check("home without one", plain, at(first))
	check("home is no absolute path", relative, at(first))
	place(t, at(config))
	check("home", a, at(config))
	place(t, at(filepath.Join(home, ".config")))
	check("home is not named", plain, at(filepath.Join(home, ".config")))
}

func place(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(openKey), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// emptyRing is a world with no key and no passphrase of its own.
func emptyRing(t *testing.T, xdg string) (k *Keyring, stderr *strings.Builder) {
	t.Helper()
	for _, name := range []string{KeyPassword, MasterPassword} {
		for _, suffix := range []string{"", "_FD", "_FILE", "_CMD"} {
			unset(t, name+suffix)
		}
	}
	unset(t, "CREDENTIALS_DIRECTORY")
	stderr = &strings.Builder{}
	return &Keyring{Stdin: strings.NewReader(""), Stderr: stderr, Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": xdg, "XDG_CONFIG_DIRS": xdg}[name]
	}}, stderr
}

// What was named must open; trouble with the default key is a warning.
func TestKeyTroubleIsFatalOrNot(t *testing.T) {
	good, sealed := write(t, "good.json", openKey), write(t, "sealed.json", lockedKey)
	garbage := write(t, "garbage.json", "garbage")
	wrongPrint := write(t, "print.json", strings.Replace(openKey, `"kdf"`, `"fingerprint":"`+strings.Repeat("00", 32)+`","kdf"`, 1))
	passFile, wrongFile := write(t, "pass", keyPass+"\n"), write(t, "wrong", "something else\n")
	open := write(t, "open.json", openKey)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		spec   string
		env    string // value of the passphrase
		code   int
		stderr string // in it, or in the error
	}{
		{"good", good, "", 0, ""},
		{"readable by others", open, "", 0, "can be read by others (mode 0644)"},
		{"missing", "/no/such/key", "", wrongKey, "no such file"},
		{"a directory", t.TempDir(), "", wrongKey, "is a directory"},
		{"garbage", garbage, "", wrongKey, "damaged key file"},
		{"without end", "/dev/zero", "", wrongKey, "longer than"},
		{"another key than it says", wrongPrint, "", wrongKey, "fingerprint"},
		{"passphrase in a file", sealed + ",password-file=" + passFile, "", 0, ""},
		{"wrong passphrase in a file", sealed + ",password-file=" + wrongFile, "", wrongKey, "wrong passphrase"},
		{"wrong passphrase in a file, right one in the environment", sealed + ",password-file=" + wrongFile, keyPass, wrongKey, "wrong passphrase"},
		{"passphrase file missing", sealed + ",password-file=/no/such/file", "", wrongKey, "no such file"},
		{"passphrase of a program", sealed + ",password-cmd=cat " + passFile, "", 0, ""},
		{"a program that fails", sealed + ",password-cmd=false", "", wrongKey, "running false"},
		{"passphrase in the environment", sealed, keyPass, 0, ""},
		{"wrong passphrase in the environment", sealed, "something else", wrongKey, `wrong passphrase (hint: "tiny")`},
		{"nobody to ask", sealed, "", wrongKey, "no terminal"},
		{"no file", ",password-file=x", "", wrongUsage, "names no file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, stderr := emptyRing(t, t.TempDir())
			if c.env != "" {
				t.Setenv(KeyPassword, c.env)
			}
			s, err := k.Open(t.Context(), Options{KeyFiles: []string{c.spec}})
			if kindOf(err) != c.code {
				t.Fatalf("exit code %d, %v, want %d", kindOf(err), err, c.code)
			}
			text := stderr.String()
			if err != nil {
				text += err.Error()
			} else if len(s.Keys) != 1 || s.Keys[0][31] != 0x1f {
				t.Errorf("got %d keys, want the one", len(s.Keys))
			}
			if !strings.Contains(text, c.stderr) || c.stderr == "" && text != "" {
				t.Errorf("said %q, want %q", text, c.stderr)
			}
			for _, secret := range []string{keyPass, "something else"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q shows a passphrase", text)
				}
			}
			if c.code == wrongUsage {
				return
			}
			// The same as the default key.
			config := t.TempDir()
			spec, err := parseKeySpec(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(spec.file)
			if err != nil || !info.Mode().IsRegular() || spec.file != c.spec {
				return
			}
			same, err := os.ReadFile(spec.file)
			if err != nil {
				t.Fatal(err)
			}
			there := filepath.Join(config, "proxmox-backup", "encryption-key.json")
			place(t, there)
			if err := os.WriteFile(there, same, 0o600); err != nil {
				t.Fatal(err)
			}
			k, stderr = emptyRing(t, config)
			if c.env != "" {
				t.Setenv(KeyPassword, c.env)
			}
			s, err = k.Open(t.Context(), Options{})
			if err != nil || len(s.Keys) > 1 || (len(s.Keys) == 1) != (c.code == 0) {
				t.Errorf("as the default key: %d keys, %v", len(s.Keys), err)
			}
			if warned := strings.HasPrefix(stderr.String(), "pbsfs: warning: the default key is not used: "); warned != (c.code != 0) {
				t.Errorf("as the default key: said %q", stderr)
			}
		})
	}
}

// A passphrase of the environment is tried on each key that needs one, and is
// no business of the others.
func TestOnePassphraseForAllKeys(t *testing.T) {
	k, _ := emptyRing(t, t.TempDir())
	t.Setenv(KeyPassword+"_FD", inherited(t, keyPass+"\n")) // can be read once
	sealed := write(t, "sealed.json", lockedKey)
	s, err := k.Open(t.Context(), Options{KeyFiles: []string{sealed, write(t, "good.json", openKey), sealed}})
	if err != nil || len(s.Keys) != 3 {
		t.Errorf("got %+v, %v, want three keys", s, err)
	}
}

func TestMasterKeyTrouble(t *testing.T) {
	testdata := func(name string) string { return filepath.Join("../../../../store/keys/testdata", name) }
	for _, c := range []struct {
		name, file, env string
		code            int
		text            string
	}{
		{"plain", testdata("pkcs8.pem"), "", 0, ""},
		{"protected", testdata("pbkdf2-sha256.pem"), "small", 0, ""},
		{"wrong passphrase", testdata("pbkdf2-sha256.pem"), "other", wrongKey, "wrong passphrase"},
		{"nobody to ask", testdata("pbkdf2-sha256.pem"), "", wrongKey, "no terminal"},
		{"not RSA", testdata("ed25519.pem"), "", wrongKey, "not an RSA key"},
		{"missing", "/no/such/key", "", wrongKey, "no such file"},
		{"garbage", write(t, "garbage.pem", "garbage"), "", wrongKey, "no PEM text"},
		{"a key file", write(t, "key.json", openKey), "", wrongKey, "no PEM text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, _ := emptyRing(t, t.TempDir())
			if c.env != "" {
				t.Setenv(MasterPassword, c.env)
			}
			s, err := k.Open(t.Context(), Options{MasterFiles: []string{c.file}})
			if kindOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("exit code %d, %v, want %d, %q", kindOf(err), err, c.code, c.text)
			}
			if err == nil && len(s.Masters) != 1 {
				t.Errorf("got %d master keys, want 1", len(s.Masters))
			}
		})
	}
}

// What is handed over arrives, and what came wrong is an error.
func TestSecretsAreHandedOver(t *testing.T) {
	der, err := masterOf(t).DER()
	if err != nil {
		t.Fatal(err)
	}
	in := &Secrets{Keys: [][32]byte{{1}, {2}}, Masters: [][]byte{der}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Write(w); err != nil { // fits into the pipe
		t.Fatal(err)
	}
	out, err := ReadSecrets(r)
	if err != nil {
		t.Fatal(err)
	}
	list, masters, err := out.Open()
	if err != nil || len(list) != 2 || len(masters) != 1 {
		t.Fatalf("got %d and %d keys, %v, want 2 and 1", len(list), len(masters), err)
	}
	for i, raw := range in.Keys {
		want, err := keys.New(raw)
		if err != nil || list[i].Fingerprint() != want.Fingerprint() {
			t.Errorf("key %d: got %v, want %v", i, list[i], want)
		}
	}
	if _, _, err := (&Secrets{Masters: [][]byte{{1}}}).Open(); err == nil {
		t.Error("a master key that is none was opened")
	}
	r, w, err = os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if s, err := ReadSecrets(r); err == nil {
		t.Errorf("read %+v from nothing", s)
	}
}

func masterOf(t *testing.T) *keys.Master {
	t.Helper()
	text, err := os.ReadFile("../../../../store/keys/testdata/pkcs8.pem")
	if err != nil {
		t.Fatal(err)
	}
	m, err := keys.ParseMaster(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Asking ends with the command, not only with an answer.
func TestNobodyIsAskedWithoutATerminal(t *testing.T) {
	for name, stdin := range map[string]*os.File{"a file": openDevNull(t), "nothing": nil} {
		k := &Keyring{Stdin: stdin, Stderr: &strings.Builder{}}
		if stdin == nil {
			k.Stdin = strings.NewReader(keyPass + "\n")
		}
		p := &Passphrases{Keyring: k, Name: KeyPassword}
		if value, err := p.ask(context.Background(), "x"); !errors.Is(err, errNoPassphrase) {
			t.Errorf("%s: got %q, %v, want errNoPassphrase", name, value, err)
		}
	}
}

func openDevNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
