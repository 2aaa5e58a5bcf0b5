package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
)

// The key files of the fixtures.
const (
	keyNone   = "key-none.json"
	keyScrypt = "key-scrypt.json"
	keyPBKDF2 = "key-pbkdf2.json"
	keyMaster = "master-private.pem"
)

// keyFile returns the path of a copy of a key file, which its owner alone can
// read.
func (h *host) keyFile(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(fixtureDir(h.t), "keys", name))
	must(h.t, err)
	return h.file(name, string(text))
}

// file writes a file that its owner alone can read, and returns its path.
func (h *host) file(name, text string) string {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.dir, "keys-")
	must(h.t, err)
	path := filepath.Join(dir, name)
	must(h.t, os.WriteFile(path, []byte(text), 0o600))
	for _, p := range []string{dir, path} {
		must(h.t, os.Chown(p, h.uid, -1))
	}
	return path
}

// password returns the passphrase of a key file.
func password(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixtureDir(t), "keys", "passwords.json"))
	must(t, err)
	var all map[string]string
	must(t, json.Unmarshal(text, &all))
	if all[name] == "" {
		t.Fatalf("PBSFS_FIXTURES: no passphrase of %s is known", name)
	}
	return all[name]
}

// allKeys are the arguments that name the three keys of ds-crypt, none of them
// in the same way.
func (h *host) allKeys() []string {
	h.t.Helper()
	return []string{
		"--keyfile", h.keyFile(keyNone),
		"--keyfile", h.keyFile(keyScrypt) + ",password-file=" + h.file("pass", password(h.t, keyScrypt)+"\nsecond line\n"),
		"--keyfile", h.keyFile(keyPBKDF2) + ",password-cmd=cat '" + h.file("pass word", password(h.t, keyPBKDF2)) + "'",
	}
}

// keyOf returns which key file an archive of ds-crypt or ds-split needs, "" when
// none.
func keyOf(a archive) string {
	switch {
	case !locked(a):
		return ""
	case strings.HasPrefix(a.name, "host/scrypt/"):
		return keyScrypt
	case strings.HasPrefix(a.name, "host/pbkdf2/"):
		return keyPBKDF2
	}
	return keyNone
}

// checkOpen checks that what has one of the keys, or needs none, is as it is
// known to be, and that the rest is locked.
func checkOpen(t *testing.T, m *mount, all []archive, keys ...string) {
	t.Helper()
	have := map[string]bool{"": true}
	for _, k := range keys {
		have[k] = true
	}
	opened := 0
	for _, a := range all {
		if !have[keyOf(a)] {
			checkLocked(t, m.dir, a)
			continue
		}
		if locked(a) {
			opened++
		}
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
	if opened == 0 && len(keys) > 0 {
		t.Errorf("nothing is opened by %q", keys)
	}
}

func TestEncryptedTreeEqualsTruth(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	m := h.mount(fixture(t, "ds-crypt"), h.allKeys()...)
	checkOpen(t, m, truth(t, "ds-crypt"), keyNone, keyScrypt, keyPBKDF2)
	t.Run("split", func(t *testing.T) {
		h := newHost(t)
		m := h.mount(fixture(t, "ds-split"), "--keyfile", h.keyFile(keyNone))
		checkOpen(t, m, truth(t, "ds-split"), keyNone)
	})
}

const encryptedImage = "vm/200/2023-11-14T22:16:40Z/drive-scsi0.img"

func TestPartitionOfEncryptedImage(t *testing.T) {
	needLoop(t)
	h := newHost(t)
	m := h.mount(fixture(t, "ds-crypt"), "--keyfile", h.keyFile(keyNone))
	offset := truthOf(t, "ds-crypt", encryptedImage).entries[0].PartOffset
	dir := mountDevice(t, loopDevice(t, m.path(encryptedImage), offset, 0))
	var found []difference
	for _, d := range compare(dir, truthOf(t, "ds-crypt", encryptedImage+".part1")) {
		if d.path != "lost+found" || d.what != "extra" { // the truth leaves it out
			found = append(found, d)
		}
	}
	reportDifferences(t, encryptedImage, found)
}

// With one key of three, exactly its snapshots open, whichever way its
// passphrase comes.
func TestOneKeyOpensItsSnapshots(t *testing.T) {
	needRoot(t)
	all := truth(t, "ds-crypt")
	for _, c := range []struct {
		name, key string
		vars      func(h *host, pass string) []string
	}{
		{"none", keyNone, func(*host, string) []string { return nil }},
		{"value", keyScrypt, func(_ *host, pass string) []string { return []string{"PBS_ENCRYPTION_PASSWORD=" + pass} }},
		{"file", keyPBKDF2, func(h *host, pass string) []string {
			return []string{"PBS_ENCRYPTION_PASSWORD_FILE=" + h.file("pass", pass+"\n")}
		}},
		{"command", keyPBKDF2, func(h *host, pass string) []string {
			return []string{"PBS_ENCRYPTION_PASSWORD_CMD=cat " + h.file("pass", pass+"\n")}
		}},
		{"credential", keyPBKDF2, func(h *host, pass string) []string {
			return []string{"CREDENTIALS_DIRECTORY=" + filepath.Dir(h.file("proxmox-backup-client.encryption-password", pass))}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			file := h.keyFile(c.key)
			if c.key != keyNone {
				h.vars = append(h.vars, c.vars(h, password(t, c.key))...)
			}
			m := h.mount(fixture(t, "ds-crypt"), "--keyfile", file)
			checkOpen(t, m, all, c.key)
		})
	}
}

// The key where the official client has it needs not be named.
func TestDefaultKey(t *testing.T) {
	h := newHost(t)
	config := filepath.Dir(filepath.Dir(h.file("x", "")))
	config = subdir(t, config, "xdg")
	h.vars = append(h.vars, "XDG_CONFIG_HOME="+config)
	to := filepath.Join(subdir(t, config, "proxmox-backup"), "encryption-key.json")
	must(t, os.Rename(h.keyFile(keyNone), to))
	m := h.mount(fixture(t, "ds-crypt"))
	a := truthOf(t, "ds-crypt", encryptedImage)
	reportDifferences(t, a.name, compare(m.path(a.name), a))

	got := h.run("key", "list")
	got.want(t, 0)
	if want := fingerprintOf(t, keyNone) + "  none  " + to + "\n"; got.stdout != want {
		t.Errorf("key list: got %q, want %q", got.stdout, want)
	}
	// It is found damaged: a warning, and what needs no key is served.
	must(t, os.WriteFile(to, []byte("garbage"), 0o600))
	m = h.unmounted(fixture(t, "ds-crypt"))
	said := m.run()
	said.want(t, 0)
	m.process = m.findServer()
	if !strings.HasPrefix(said.stderr, "pbsfs: warning: the default key is not used: ") || strings.Count(said.stderr, "\n") != 1 {
		t.Errorf("with a damaged default key: got %q on stderr, want one warning", said.stderr)
	}
	checkLocked(t, m.dir, a)
}

// fingerprintOf returns what a key file of the fixtures says of itself.
func fingerprintOf(t *testing.T, name string) string {
	t.Helper()
	return keyMembers(t, filepath.Join(fixtureDir(t), "keys", name))["fingerprint"].(string)
}

// keyMembers reads a key file.
func keyMembers(t *testing.T, path string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var out map[string]any
	must(t, json.Unmarshal(text, &out))
	return out
}

const (
	encFirst = "host/enc/2023-11-14T22:15:00Z"
	encLast  = "host/enc/2023-11-15T23:15:00Z"
	wrapped  = "host/master/2023-11-14T22:23:20Z"
)

// Without a key, sizes are those of what is stored, and what needs no key can
// be read.
func TestLockedSnapshotIsListed(t *testing.T) {
	store := fixture(t, "ds-crypt")
	m := mountAt(t, store)
	sizes := map[string]int64{}
	for _, f := range storedManifest(t, store, wrapped)["files"].([]any) {
		f := f.(map[string]any)
		size, err := f["size"].(json.Number).Int64()
		must(t, err)
		sizes[f["filename"].(string)] = size
	}
	for shown, stored := range map[string]string{"root.pxar": "root.pxar.didx", "secret.conf": "secret.conf.blob", "catalog.pcat1": "catalog.pcat1.didx"} {
		var st unix.Stat_t
		must(t, lstat(m.path(wrapped, shown), &st))
		if st.Size != sizes[stored] || st.Size == 0 {
			t.Errorf("%s: got size %d, want the %d bytes that the manifest has", shown, st.Size, sizes[stored])
		}
		if shown == "root.pxar" {
			continue
		}
		_, err := os.ReadFile(m.path(wrapped, shown))
		wantErrno(t, "opening "+shown, err, unix.EACCES)
	}
	for _, path := range []string{"root.pxar/", "root.pxar/none", "root.pxar/../root.pxar/x/y"} {
		var st unix.Stat_t
		wantErrno(t, "looking up "+path, lstat(m.path(wrapped)+"/"+path+"x", &st), unix.EACCES)
	}
	text, err := os.ReadFile(m.path(wrapped, "rsa-encrypted.key"))
	if err != nil || len(text) != 512 {
		t.Errorf("rsa-encrypted.key: got %d bytes and %v, want 512", len(text), err)
	}
	if _, err := os.ReadFile(m.path(wrapped, "index.json")); err != nil {
		t.Errorf("index.json: %v", err)
	}
}

// attributes returns the attributes of a snapshot.
func attributes(t *testing.T, m *mount, snapshot string) map[string]string {
	t.Helper()
	out := map[string]string{}
	buf := make([]byte, 4096)
	for _, name := range []string{"encrypted", "fingerprint", "signature"} {
		n, err := unix.Getxattr(m.path(snapshot), "user.pbs."+name, buf)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			t.Fatalf("%s: user.pbs.%s: %v", snapshot, name, err)
		}
		out[name] = string(buf[:max(n, 0)])
	}
	return out
}

func checkAttributes(t *testing.T, m *mount, snapshot, encrypted, key, signature string) {
	t.Helper()
	want := map[string]string{"encrypted": encrypted, "fingerprint": "", "signature": signature}
	if key != "" {
		want["fingerprint"] = fingerprintOf(t, key)
	}
	if got := attributes(t, m, snapshot); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", snapshot, got, want)
	}
}

func TestAttributesOfEncryption(t *testing.T) {
	h := newHost(t)
	for _, withKeys := range []bool{false, true} {
		signed, args := "unverified", []string(nil)
		if withKeys {
			signed, args = "valid", h.allKeys()
		}
		m := h.mount(fixture(t, "ds-crypt"), args...)
		for snapshot, key := range map[string]string{
			encFirst: keyNone, encLast: keyNone, wrapped: keyNone, filepath.Dir(encryptedImage): keyNone,
			"host/scrypt/2023-11-14T22:18:20Z": keyScrypt, "host/pbkdf2/2023-11-14T22:20:00Z": keyPBKDF2,
		} {
			checkAttributes(t, m, snapshot, "yes", key, signed)
		}
		checkAttributes(t, m, "host/signed/2023-11-14T22:21:40Z", "no", keyNone, signed)
		checkAttributes(t, m, "host/plain/2023-11-14T22:25:00Z", "no", "", "unsigned")
	}
}

// soon is how long a mount may take to open what a key was added for.
const soon = 3 * time.Second

// A key that is added opens its snapshots in the running mount, also what the
// kernel has been refused before.
func TestKeyAddOpensRunningMount(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	m := h.mount(fixture(t, "ds-crypt"))
	all := truth(t, "ds-crypt")
	checkOpen(t, m, all)
	var have []string
	for i, key := range []string{keyPBKDF2, keyNone, keyScrypt} {
		spec := h.keyFile(key)
		if key != keyNone {
			spec += ",password-file=" + h.file("pass", password(t, key))
		}
		h.run("key", "add", m.dir, "--keyfile", spec).want(t, 0)
		have = append(have, key)
		if err := within(soon, func() error { return differences(m, all, key) }); err != nil {
			t.Errorf("%s: its snapshots are not open after %s: %v", key, soon, err)
		}
		checkOpen(t, m, all, have...)
		if i == 0 { // once more changes nothing
			h.run("key", "add", m.dir, "--keyfile", spec).want(t, 0)
		}
	}
	checkAttributes(t, m, encLast, "yes", keyNone, "valid")
	if limit := coreLimit(t, m.process); limit != [2]string{"0", "0"} {
		t.Errorf("limit of core dumps after a key was added: got %q, want 0", limit)
	}
}

// differences returns those of the archives that need a key; what the kernel
// remembers of them when they were locked is among them for a moment.
func differences(m *mount, all []archive, key string) error {
	for _, a := range all {
		if keyOf(a) != key {
			continue
		}
		if found := compare(m.path(a.name), a); len(found) > 0 {
			return fmt.Errorf("%s: %d differences, %v first", a.name, len(found), found[0])
		}
	}
	return nil
}

// What cannot be added leaves the mount as it is.
func TestKeyAddRefuses(t *testing.T) {
	h := newHost(t)
	m := h.mount(fixture(t, "ds-crypt"))
	h.run("key", "add", m.dir, "--keyfile", "/no/such/key").want(t, 6)
	h.run("key", "add", m.dir, "--keyfile", h.file("garbage", "garbage")).want(t, 6)
	h.run("key", "add", m.dir, "--keyfile", h.keyFile(keyScrypt)+",password-file="+h.file("pass", "wrong one")).want(t, 6)
	h.run("key", "add", m.dir, "--keyfile", h.keyFile(keyScrypt)).want(t, 6)
	h.run("key", "add", filepath.Dir(m.dir), "--keyfile", h.keyFile(keyNone)).want(t, 1)
	checkLocked(t, m.dir, truthOf(t, "ds-crypt", encryptedImage))
	if !m.process.alive() {
		t.Error("the serving process died")
	}
}

// masterVars are ways to give the passphrase of the master key.
func masterVars(h *host) map[string]string {
	pass := password(h.t, keyMaster)
	return map[string]string{
		"value":   "PBSFS_MASTER_KEY_PASSWORD=" + pass,
		"file":    "PBSFS_MASTER_KEY_PASSWORD_FILE=" + h.file("pass", pass+"\n"),
		"command": "PBSFS_MASTER_KEY_PASSWORD_CMD=cat " + h.file("pass", pass+"\n"),
	}
}

func TestMasterKeyOpens(t *testing.T) {
	needRoot(t)
	all := truth(t, "ds-crypt")
	h := newHost(t)
	for name, v := range masterVars(h) {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.vars = append(h.vars, v)
			m := h.mount(fixture(t, "ds-crypt"), "--master-keyfile", h.keyFile(keyMaster))
			opened := 0
			for _, a := range all {
				if strings.HasPrefix(a.name, wrapped) {
					opened++
					reportDifferences(t, a.name, compare(m.path(a.name), a))
				}
			}
			if opened == 0 {
				t.Errorf("nothing is known about %s", wrapped)
			}
			checkAttributes(t, m, wrapped, "yes", keyNone, "valid")
			// Nothing was wrapped with the others.
			for _, a := range all {
				if key := keyOf(a); key == keyScrypt || key == keyPBKDF2 {
					checkLocked(t, m.dir, a)
				}
			}
		})
	}
}

// What is recovered is the key file as the official client wrapped it, and opens
// the snapshot.
func TestKeyRecover(t *testing.T) {
	store := fixture(t, "ds-crypt")
	h := newHost(t)
	for name, v := range masterVars(h) {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.vars = append(h.vars, v)
			master := h.keyFile(keyMaster)
			output := filepath.Join(h.dir, "recovered.json")
			h.run("key", "recover", store, "host/master/latest", "--master-keyfile", master, "--output", output).want(t, 0)
			info, err := os.Stat(output)
			must(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("the key file has mode %o, want 600", info.Mode().Perm())
			}
			got, origin := keyMembers(t, output), keyMembers(t, filepath.Join(fixtureDir(t), "keys", keyNone))
			for _, member := range []string{"kdf", "created", "data", "fingerprint"} {
				if v, ok := got[member]; !ok || v != origin[member] {
					t.Errorf("%s: got %v, want %v", member, v, origin[member])
				}
			}
			if _, err := time.Parse(time.RFC3339, got["modified"].(string)); err != nil {
				t.Errorf("modified: %v", err)
			}
			if len(got) != 5 {
				t.Errorf("got members %v, want the five of a key file", got)
			}
			printed := h.run("key", "recover", store, wrapped, "--master-keyfile", master)
			printed.want(t, 0)
			if text, err := os.ReadFile(output); err != nil || printed.stdout != string(text) {
				t.Errorf("printed is %q, in the file is %q, %v", printed.stdout, text, err)
			}
			// A file that is there is kept.
			must(t, os.WriteFile(output+"2", []byte("mine"), 0o600))
			h.run("key", "recover", store, wrapped, "--master-keyfile", master, "--output", output+"2").want(t, 1)
			if text, err := os.ReadFile(output + "2"); string(text) != "mine" {
				t.Errorf("a file that was there is now %q, %v", text, err)
			}
			h.vars = h.vars[:len(h.vars)-1]
			m := h.mount(store, "--keyfile", output)
			a := truthOf(t, "ds-crypt", wrapped+"/root.pxar")
			reportDifferences(t, a.name, compare(m.path(a.name), a))
		})
	}
}

func TestKeyShow(t *testing.T) {
	h := newHost(t)
	for file, kdf := range map[string]string{keyNone: "none", keyScrypt: "scrypt", keyPBKDF2: "pbkdf2"} {
		path := h.keyFile(file)
		is := keyMembers(t, path)
		want := map[string]any{"file": path, "kdf": kdf, "fingerprint": is["fingerprint"], "created": is["created"], "modified": is["modified"]}
		text := fmt.Sprintf("fingerprint: %s\nkdf: %s\ncreated: %s\nmodified: %s\n", is["fingerprint"], kdf, is["created"], is["modified"])
		if is["hint"] != nil {
			want["hint"] = is["hint"]
			text += fmt.Sprintf("hint: %s\n", is["hint"])
		}
		got := h.run("key", "show", path)
		got.want(t, 0)
		if got.stdout != text || got.stderr != "" {
			t.Errorf("key show %s: got %q and %q on stderr, want %q", file, got.stdout, got.stderr, text)
		}
		got = h.run("key", "show", "--json", path)
		got.want(t, 0)
		var members map[string]any
		must(t, json.Unmarshal([]byte(got.stdout), &members))
		if fmt.Sprint(members) != fmt.Sprint(want) {
			t.Errorf("key show --json %s: got %v, want %v", file, members, want)
		}
	}
	got := h.run("key", "list", "--json")
	got.want(t, 0)
	if got.stdout != "[]\n" {
		t.Errorf("key list --json without a key: got %q, want an empty list", got.stdout)
	}
}

// ls and cat take keys, too.
func TestKeysWithoutMounting(t *testing.T) {
	h := newHost(t)
	store := fixture(t, "ds-crypt")
	file := "host/enc/latest/secret.conf"
	h.run("cat", store, file).want(t, 6)
	h.run("ls", store, "host/enc/latest/root.pxar").want(t, 6)
	got := h.run("cat", store, file, "--keyfile", h.keyFile(keyNone))
	got.want(t, 0)
	if a := truthOf(t, "ds-crypt", encLast+"/secret.conf"); int64(len(got.stdout)) != a.entries[0].Size {
		t.Errorf("cat %s: got %d bytes, want %d", file, len(got.stdout), a.entries[0].Size)
	}
	got = h.run("ls", store, "host/enc/latest/root.pxar", "--keyfile", h.keyFile(keyNone))
	got.want(t, 0)
	if len(got.stdout) == 0 {
		t.Error("ls of an encrypted archive with its key: got nothing")
	}
}

// A passphrase is asked for on the terminal, once for each key, and does not
// show there.
func TestPassphraseFromTerminal(t *testing.T) {
	h := newHost(t)
	m := h.unmounted(fixture(t, "ds-crypt"))
	term := newTerminal(t)
	cmd := h.command("mount", m.store, m.dir, "--log", m.log, "--keyfile", h.keyFile(keyPBKDF2))
	term.attach(cmd)
	must(t, cmd.Start())
	term.wait("Passphrase of ")
	term.write(password(t, keyPBKDF2) + "\n")
	must(t, cmd.Wait())
	m.process = m.findServer()
	a := truthOf(t, "ds-crypt", "host/pbkdf2/2023-11-14T22:20:00Z/etc.pxar")
	reportDifferences(t, a.name, compare(m.path(a.name), a))
	if strings.Contains(term.said(), password(t, keyPBKDF2)) {
		t.Errorf("the passphrase shows on the terminal: %q", term.said())
	}
}

// Whoever is asked may leave, and finds the terminal as it was.
func TestInterruptWhileAsked(t *testing.T) {
	h := newHost(t)
	m := h.unmounted(fixture(t, "ds-crypt"))
	term := newTerminal(t)
	before := term.mode()
	cmd := h.command("mount", m.store, m.dir, "--log", m.log, "--keyfile", h.keyFile(keyPBKDF2))
	term.attach(cmd)
	must(t, cmd.Start())
	term.wait("Passphrase of ")
	if term.mode() == before {
		t.Error("what is typed shows")
	}
	term.write("\x03") // as Ctrl-C does
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Fatal("it still asks after an interrupt")
	}
	if code := cmd.ProcessState.ExitCode(); code == 0 {
		t.Error("got exit code 0 after an interrupt")
	}
	if term.mode() != before {
		t.Error("the terminal is not as it was")
	}
}

// storedManifest reads the manifest of a snapshot of a datastore.
func storedManifest(t *testing.T, store, snapshot string) map[string]any {
	t.Helper()
	encoded, err := os.ReadFile(filepath.Join(store, snapshot, manifestName))
	must(t, err)
	text, err := blob.Decode(nil, encoded, 1<<20, blob.MustPlain, nil)
	must(t, err)
	numbers := json.NewDecoder(strings.NewReader(string(text)))
	numbers.UseNumber()
	var m map[string]any
	must(t, numbers.Decode(&m))
	if _, err := numbers.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("manifest of %s: more than one value", snapshot)
	}
	return m
}
