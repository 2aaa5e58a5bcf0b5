package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// keyTroubles are keys that cannot be used: nothing is mounted.
var keyTroubles = []struct {
	name string
	args func(h *host) []string
	vars func(h *host) []string
	want string // in the message
}{
	{"missing", func(*host) []string { return []string{"--keyfile", "/no/such/key"} }, nil, "no such file"},
	{"a directory", func(h *host) []string { return []string{"--keyfile", h.dir} }, nil, "is a directory"},
	{"garbage", func(h *host) []string { return []string{"--keyfile", h.file("key", "garbage")} }, nil, "damaged key file"},
	{"empty", func(h *host) []string { return []string{"--keyfile", h.file("key", "")} }, nil, "damaged key file"},
	{"without end", func(*host) []string { return []string{"--keyfile", "/dev/zero"} }, nil, "longer than"},
	{"data of another key", func(h *host) []string { return []string{"--keyfile", h.mixedKey()} }, nil, "fingerprint"},
	{"absurd parameters", func(h *host) []string {
		return []string{"--keyfile", h.alteredKey(keyScrypt, `"n":65536`, `"n":1073741824`)}
	}, func(h *host) []string { return []string{"PBS_ENCRYPTION_PASSWORD=" + password(h.t, keyScrypt)} }, "MiB"},
	{"no passphrase", func(h *host) []string { return []string{"--keyfile", h.keyFile(keyScrypt)} }, nil, "no terminal"},
	{
		"wrong passphrase", func(h *host) []string { return []string{"--keyfile", h.keyFile(keyScrypt)} },
		func(*host) []string { return []string{"PBS_ENCRYPTION_PASSWORD=wrong horse"} }, "wrong passphrase (hint: \"which animal\")",
	},
	{
		"empty passphrase", func(h *host) []string { return []string{"--keyfile", h.keyFile(keyPBKDF2)} },
		func(*host) []string { return []string{"PBS_ENCRYPTION_PASSWORD="} }, "wrong passphrase",
	},
	{
		"passphrase of another key", func(h *host) []string { return h.keysAnd(keyPBKDF2) },
		func(h *host) []string { return []string{"PBS_ENCRYPTION_PASSWORD=" + password(h.t, keyScrypt)} }, "wrong passphrase",
	},
	{"no passphrase file", func(h *host) []string {
		return []string{"--keyfile", h.keyFile(keyScrypt) + ",password-file=/no/such/file"}
	}, nil, "no such file"},
	{"passphrase command fails", func(h *host) []string { return []string{"--keyfile", h.keyFile(keyScrypt) + ",password-cmd=false"} }, nil, "running false"},
	{"good one and bad one", func(h *host) []string { return append(h.keysAnd(), "--keyfile", "/no/such/key") }, nil, "no such file"},
	{"master key missing", func(*host) []string { return []string{"--master-keyfile", "/no/such/key"} }, nil, "no such file"},
	{"master key garbage", func(h *host) []string { return []string{"--master-keyfile", h.file("key", "garbage")} }, nil, "no PEM text"},
	{"master key's public half", func(h *host) []string { return []string{"--master-keyfile", h.keyFile("master-public.pem")} }, nil, "PUBLIC KEY"},
	{"master key, no passphrase", func(h *host) []string { return []string{"--master-keyfile", h.keyFile(keyMaster)} }, nil, "no terminal"},
	{
		"master key, wrong passphrase", func(h *host) []string { return []string{"--master-keyfile", h.keyFile(keyMaster)} },
		func(*host) []string { return []string{"PBSFS_MASTER_KEY_PASSWORD=wrong secret"} }, "wrong passphrase",
	},
	{
		"master key, the data key's passphrase", func(h *host) []string { return []string{"--master-keyfile", h.keyFile(keyMaster)} },
		func(h *host) []string { return []string{"PBS_ENCRYPTION_PASSWORD=" + password(h.t, keyMaster)} }, "no terminal",
	},
}

// keysAnd are arguments that name a good key and others.
func (h *host) keysAnd(others ...string) []string {
	args := []string{"--keyfile", h.keyFile(keyNone)}
	for _, o := range others {
		args = append(args, "--keyfile", h.keyFile(o))
	}
	return args
}

// alteredKey returns a key file with one text replaced.
func (h *host) alteredKey(name, from, to string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.keyFile(name))
	must(h.t, err)
	if !strings.Contains(string(text), from) {
		h.t.Fatalf("%s has no %s", name, from)
	}
	return h.file(name, strings.Replace(string(text), from, to, 1))
}

// mixedKey returns a key file with the fingerprint of another key.
func (h *host) mixedKey() string {
	h.t.Helper()
	return h.alteredKey(keyNone, fingerprintOf(h.t, keyNone), fingerprintOf(h.t, keyScrypt))
}

func TestKeyTroubleMountsNothing(t *testing.T) {
	for _, c := range keyTroubles {
		for _, how := range [][]string{nil, {"--foreground"}} {
			t.Run(strings.Join(append([]string{c.name}, how...), " "), func(t *testing.T) {
				h := newHost(t)
				args := append(c.args(h), how...)
				if c.vars != nil {
					h.vars = append(h.vars, c.vars(h)...)
				}
				m := h.unmounted(fixture(t, "ds-crypt"))
				got := m.run(args...)
				got.want(t, 6)
				if !strings.Contains(got.stderr, c.want) {
					t.Errorf("got %q on stderr, want %q in it", got.stderr, c.want)
				}
				if n := mountsAt(t, m.dir); n != 0 {
					t.Errorf("got %d mounts, want none", n)
				}
				if all := m.records(); len(all) != 0 {
					t.Errorf("got %d records of mounts, want none", len(all))
				}
			})
		}
	}
}

// What is odd about a key but no trouble is a warning, on stderr, of each way to
// mount.
func TestKeyWarnings(t *testing.T) {
	for _, c := range []struct {
		name, fixture string
		key           func(h *host) string
		want          func(t *testing.T, key string) string
	}{
		{"fits nothing", "ds-basic", func(h *host) string { return h.keyFile(keyNone) }, func(t *testing.T, _ string) string {
			t.Helper()
			return "pbsfs: warning: the key " + fingerprintOf(t, keyNone)[:8*3-1] + " fits none of the newest snapshots\n"
		}},
		{"readable by others", "ds-crypt", func(h *host) string {
			path := h.keyFile(keyNone)
			must(h.t, os.Chmod(path, 0o640))
			return path
		}, func(_ *testing.T, key string) string {
			return "pbsfs: warning: " + key + " can be read by others (mode 0640)\n"
		}},
		{"all is well", "ds-crypt", func(h *host) string { return h.keyFile(keyNone) }, func(*testing.T, string) string { return "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			key := c.key(h)
			m := h.unmounted(fixture(t, c.fixture))
			got := m.run("--keyfile", key)
			got.want(t, 0)
			m.process = m.findServer()
			if want := c.want(t, key); got.stderr != want {
				t.Errorf("got %q on stderr, want %q", got.stderr, want)
			}
			f := serve(t, fixture(t, c.fixture), "--keyfile", key)
			f.unmount()
			f.end(0)
			if got, want := f.stderr.String(), c.want(t, key); got != want {
				t.Errorf("--foreground: got %q on stderr, want %q", got, want)
			}
		})
	}
}

func TestKeyRecoverRefuses(t *testing.T) {
	h := newHost(t)
	store, output := fixture(t, "ds-crypt"), filepath.Join(h.dir, "recovered")
	master := h.keyFile(keyMaster)
	other := filepath.Join("..", "store", "keys", "testdata", "pkcs8.pem")
	text, err := os.ReadFile(other)
	must(t, err)
	run := func(vars []string, args ...string) result {
		h := &host{t: t, dir: h.dir, uid: h.uid, vars: append(append([]string{}, h.vars...), vars...)}
		return h.run(append([]string{"key", "recover", "--output", output}, args...)...)
	}
	pass := []string{"PBSFS_MASTER_KEY_PASSWORD=" + password(t, keyMaster)}
	run([]string{"PBSFS_MASTER_KEY_PASSWORD=wrong"}, store, wrapped, "--master-keyfile", master).want(t, 6)
	run(nil, store, wrapped, "--master-keyfile", master).want(t, 6)
	run(nil, store, wrapped, "--master-keyfile", h.file("other.pem", string(text))).want(t, 6)
	run(pass, store, encFirst, "--master-keyfile", master).want(t, 1) // was not wrapped
	run(pass, store, "host/none/latest", "--master-keyfile", master).want(t, 1)
	run(pass, store, wrapped).want(t, 2)

	damaged := copyFixture(t, "ds-crypt")
	flip(t, filepath.Join(damaged, wrapped, "rsa-encrypted.key.blob"))
	run(pass, damaged, wrapped, "--master-keyfile", master).want(t, 5)
	if _, err := os.Stat(output); err == nil {
		t.Error("a key file was written")
	}
}

// withCRC corrects the checksum of an encoded blob that was changed.
func withCRC(encoded []byte, header int) []byte {
	binary.LittleEndian.PutUint32(encoded[8:], crc32.ChecksumIEEE(encoded[header:]))
	return encoded
}

// sealedHeader is how long the header of an encrypted blob is: magic, CRC, IV,
// tag.
const sealedHeader = 8 + 4 + 16 + 16

// tamper changes the manifest of a snapshot, as somebody would who can write to
// the datastore but does not have the key: its checksum is right.
func tamper(t *testing.T, store, snapshot string, change func(m map[string]any)) {
	t.Helper()
	m := storedManifest(t, store, snapshot)
	change(m)
	text, err := json.Marshal(m)
	must(t, err)
	encoded := append([]byte("\x42\xab\x38\x07\xbe\x83\x70\xa1\x00\x00\x00\x00"), text...)
	must(t, os.WriteFile(filepath.Join(store, snapshot, manifestName), withCRC(encoded, 12), 0o644))
}

// member returns the line of a file in a manifest.
func member(t *testing.T, m map[string]any, file string) map[string]any {
	t.Helper()
	for _, f := range m["files"].([]any) {
		if f := f.(map[string]any); f["filename"] == file {
			return f
		}
	}
	t.Fatalf("the manifest has no %s", file)
	return nil
}

// A manifest with a wrong signature is an error of its snapshot and of no other.
func TestTamperedManifest(t *testing.T) {
	needRoot(t)
	store := copyFixture(t, "ds-crypt")
	image, scrypt, pbkdf2 := filepath.Dir(encryptedImage), "host/scrypt/2023-11-14T22:18:20Z", "host/pbkdf2/2023-11-14T22:20:00Z"
	bad := map[string]bool{encFirst: true, encLast: true, scrypt: true, image: true}
	tamper(t, store, encFirst, func(m map[string]any) { member(t, m, "catalog.pcat1.didx")["crypt-mode"] = "sign-only" })
	tamper(t, store, encLast, func(m map[string]any) { member(t, m, "catalog.pcat1.didx")["size"] = 1769 })
	tamper(t, store, scrypt, func(m map[string]any) { member(t, m, "catalog.pcat1.didx")["csum"] = strings.Repeat("0", 64) })
	tamper(t, store, image, func(m map[string]any) { m["files"] = m["files"].([]any)[:1] })
	// What is not signed may change.
	tamper(t, store, pbkdf2, func(m map[string]any) { m["unprotected"].(map[string]any)["notes"] = "changed since" })
	all := truth(t, "ds-crypt")
	h := newHost(t)

	m := h.mount(store, h.allKeys()...)
	for _, a := range all {
		if !bad[a.snapshot()] {
			reportDifferences(t, a.name, compare(m.path(a.name), a))
			continue
		}
		for range 2 { // the second time, nothing new is logged
			_, err := readNames(m.path(a.snapshot()))
			wantErrno(t, "listing "+a.snapshot(), err, unix.EIO)
			var st unix.Stat_t
			wantErrno(t, "looking up "+a.name, lstat(m.path(a.name), &st), unix.EIO)
		}
	}
	checkAttributes(t, m, pbkdf2, "yes", keyPBKDF2, "valid")
	for s := range bad {
		if lines := m.logLines("cannot be served", s, "signature"); len(lines) != 1 {
			t.Errorf("%s: got %d lines in the log about its signature, want 1: %q", s, len(lines), lines)
		}
	}
	h.run("cat", store, encFirst+"/secret.conf", "--keyfile", h.keyFile(keyNone)).want(t, 5)

	// Only who says so gets it all the same.
	m = h.mount(store, append(h.allKeys(), "--ignore-signature")...)
	for _, a := range all {
		if filepath.Base(a.name) == "qemu-server.conf" {
			continue // no longer in the manifest
		}
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
	for s, key := range map[string]string{encFirst: keyNone, encLast: keyNone, scrypt: keyScrypt, image: keyNone} {
		checkAttributes(t, m, s, "yes", key, "invalid")
	}
	if got := h.run("cat", store, encFirst+"/secret.conf", "--keyfile", h.keyFile(keyNone), "--ignore-signature"); got.code != 0 {
		t.Errorf("cat --ignore-signature: got exit code %d: %s", got.code, got.stderr)
	}

	// Without a key, nothing can be said of it.
	m = h.mount(store)
	checkAttributes(t, m, encFirst, "yes", keyNone, "unverified")
	for _, a := range all {
		if a.snapshot() == encFirst {
			checkLocked(t, m.dir, a)
		}
	}
}

// A signature that was taken away cannot be told from one that never was; it is
// said.
func TestStrippedSignature(t *testing.T) {
	store := copyFixture(t, "ds-crypt")
	tamper(t, store, encFirst, func(m map[string]any) { m["signature"] = nil })
	h := newHost(t)
	m := h.mount(store, "--keyfile", h.keyFile(keyNone))
	a := truthOf(t, "ds-crypt", encFirst+"/secret.conf")
	reportDifferences(t, a.name, compare(m.path(a.name), a))
	checkAttributes(t, m, encFirst, "yes", keyNone, "unsigned")
	eventually(t, "the log warns once", func() error { // it is written by a goroutine of its own
		if lines := m.logLines("level=WARN", "not signed", encFirst); len(lines) != 1 {
			return fmt.Errorf("got %d warnings in the log, want 1: %q", len(lines), lines)
		}
		return nil
	})
}

// A key whose fingerprint was put on another key's snapshot does not open it,
// and what that key signed is wrong under it.
func TestSnapshotOfAnotherKey(t *testing.T) {
	store := copyFixture(t, "ds-crypt")
	const pbkdf2 = "host/pbkdf2/2023-11-14T22:20:00Z"
	tamper(t, store, pbkdf2, func(m map[string]any) {
		m["unprotected"].(map[string]any)["key-fingerprint"] = fingerprintOf(t, keyNone)
	})
	h := newHost(t)
	m := h.mount(store, "--keyfile", h.keyFile(keyNone))
	_, err := readNames(m.path(pbkdf2))
	wantErrno(t, "listing the snapshot", err, unix.EIO)
	m = h.mount(store, "--keyfile", h.keyFile(keyNone), "--ignore-signature")
	_, err = readNames(m.path(pbkdf2, "etc.pxar"))
	wantErrno(t, "entering the archive", err, unix.EIO)
}

// An encrypted blob that was altered is damaged, and it alone.
func TestTamperedBlob(t *testing.T) {
	store := copyFixture(t, "ds-crypt")
	path := filepath.Join(store, encFirst, "secret.conf.blob")
	text, err := os.ReadFile(path)
	must(t, err)
	text[len(text)-1] ^= 1
	must(t, os.WriteFile(path, withCRC(text, sealedHeader), 0o644))
	h := newHost(t)
	m := h.mount(store, "--keyfile", h.keyFile(keyNone))
	_, err = os.ReadFile(m.path(encFirst, "secret.conf"))
	wantErrno(t, "reading the blob", err, unix.EIO)
	for _, name := range []string{encFirst + "/root.pxar", encLast + "/secret.conf"} {
		a := truthOf(t, "ds-crypt", name)
		reportDifferences(t, a.name, compare(m.path(a.name), a))
	}
}

// One byte of an encrypted chunk is enough, wherever it is.
func TestFlippedBytesOfEncryptedChunk(t *testing.T) {
	const chunkSize = 4 << 20
	store := copyFixture(t, "ds-crypt")
	index := encryptedImage + ".fidx"
	digest := ownDigest(t, store, index)
	path := chunkPath(store, digest)
	pristine, err := os.ReadFile(path)
	must(t, err)
	h := newHost(t)
	m := h.mount(store, "--keyfile", h.keyFile(keyNone))
	off := int64(-1)
	for i, d := range digestsOf(t, filepath.Join(store, index)) {
		if d == digest {
			off = int64(i) * chunkSize
		}
	}
	f := openFile(t, m.path(encryptedImage))
	read := func() error {
		_, err := pread(int(f.Fd()), make([]byte, 4096), off)
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	places := []int{0, 7, 8, 12, 28} // magic, its end, CRC, IV, tag
	for range 5 {
		places = append(places, sealedHeader+random.IntN(len(pristine)-sealedHeader))
	}
	for _, at := range places {
		for _, fix := range []bool{false, true} { // the checksum
			damaged := append([]byte{}, pristine...)
			damaged[at] ^= byte(1 + random.IntN(255))
			if fix {
				withCRC(damaged, sealedHeader)
				if damaged[at] == pristine[at] {
					continue // it was the checksum that was damaged
				}
			}
			must(t, os.WriteFile(path, damaged, 0o644))
			wantErrno(t, "reading a chunk with a damaged byte", read(), unix.EIO)
		}
	}
	must(t, os.WriteFile(path, pristine, 0o644))
	must(t, read())
	a := truthOf(t, "ds-crypt", encryptedImage)
	reportDifferences(t, a.name, compare(m.path(a.name), a))
}

// An encrypted chunk that is another one's, whole and authentic, is none that
// was asked for.
func TestSwappedEncryptedChunk(t *testing.T) {
	store := copyFixture(t, "ds-crypt")
	index := encryptedImage + ".fidx"
	var other string
	digest := ownDigest(t, store, index)
	for _, d := range digestsOf(t, filepath.Join(store, index)) {
		if d != digest {
			other = d
		}
	}
	tool(t, "cp", chunkPath(store, other), chunkPath(store, digest))
	h := newHost(t)
	m := h.mount(store, "--keyfile", h.keyFile(keyNone))
	_, err := os.ReadFile(m.path(encryptedImage))
	wantErrno(t, "reading the image", err, unix.EIO)
}
