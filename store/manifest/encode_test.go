package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

func mustSnapshot(t testing.TB, typ name.Type, id string, sec int64) name.Snapshot {
	t.Helper()
	g, err := name.NewGroup(name.Namespace{}, typ, id)
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.NewTime(time.Unix(sec, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := name.NewSnapshot(g, at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vectorDraft is the manifest of reference "datastore-layout", section 6.
func vectorDraft(t testing.TB, key *keys.Key) *Draft {
	return &Draft{
		Snapshot: mustSnapshot(t, name.Host, "elsa", 1593179765),
		Files: []File{
			{mustFile(t, "test1.img.fidx"), 200, [32]byte(bytes.Repeat([]byte{1}, 32)), CryptModeEncrypt},
			{mustFile(t, "abc.blob"), 200, [32]byte(bytes.Repeat([]byte{2}, 32)), CryptModeNone},
		},
		Key: key,
	}
}

func TestDraftIsSignedAsTheReferenceVector(t *testing.T) {
	key := vectorKey(t)
	file, err := vectorDraft(t, key).Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if `"`+m.Signature+`"` != vectorSignature || m.CheckSignature(key) != Valid {
		t.Errorf("signature is %s, %s, want %s", m.Signature, m.CheckSignature(key), vectorSignature)
	}
	if fp, ok := m.KeyFingerprint(); !ok || fp != key.Fingerprint() {
		t.Errorf("fingerprint is %s, %v, want %s", fp, ok, key.Fingerprint())
	}
}

// The text of an unsigned manifest, as clients and servers print it.
func TestDraftIsPrintedAsOfficialOnesAre(t *testing.T) {
	d := vectorDraft(t, nil)
	d.Files[0].Mode = CryptModeNone
	d.Notes = "two\nlines \"quoted\" – ünïcode <&>\u2028"
	d.Stats = &UploadStats{Count: 92, Size: 1<<64 - 1, CompressedSize: 2935825, Duplicates: 1}
	entry := func(sum, file string) string {
		return "    {\n      \"crypt-mode\": \"none\",\n      \"csum\": \"" + strings.Repeat(sum, 32) +
			"\",\n      \"filename\": \"" + file + "\",\n      \"size\": 200\n    }"
	}
	want := "{\n  \"backup-id\": \"elsa\",\n  \"backup-time\": 1593179765,\n  \"backup-type\": \"host\",\n  \"files\": [\n" +
		entry("01", "test1.img.fidx") + ",\n" + entry("02", "abc.blob") +
		"\n  ],\n  \"signature\": null,\n  \"unprotected\": {\n    \"chunk_upload_stats\": {\n" +
		"      \"compressed_size\": 2935825,\n      \"count\": 92,\n      \"duplicates\": 1,\n      \"size\": 18446744073709551615\n    },\n" +
		"    \"notes\": \"two\\nlines \\\"quoted\\\" – ünïcode <&>\u2028\"\n  }\n}"
	if got, err := d.JSON(); err != nil || string(got) != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	none := &Draft{Snapshot: d.Snapshot}
	want = "{\n  \"backup-id\": \"elsa\",\n  \"backup-time\": 1593179765,\n  \"backup-type\": \"host\",\n" +
		"  \"files\": [],\n  \"signature\": null,\n  \"unprotected\": {}\n}"
	if got, err := none.JSON(); err != nil || string(got) != want {
		t.Errorf("without files: got %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestDecodeUndoesEncode(t *testing.T) {
	for _, key := range []*keys.Key{nil, vectorKey(t)} {
		d := vectorDraft(t, key)
		if key == nil {
			d.Files[0].Mode = CryptModeNone
		} else {
			d.Files[1].Mode = CryptModeSignOnly
			d.Files = append(d.Files, File{Name: name.EncryptedKey, Size: 512, Mode: CryptModeEncrypt})
		}
		d.Notes = "notes\x01"
		file, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if from, moved := m.MovedFrom(d.Snapshot); moved {
			t.Errorf("made as %s", from)
		}
		if !reflect.DeepEqual(m.Files, d.Files) || m.Notes != d.Notes || len(m.Problems)+len(m.UnprotectedProblems) > 0 {
			t.Errorf("read %+v, want %+v", m, d)
		}
		if key != nil && m.CheckSignature(key) != Valid || key == nil && m.Signature != "" {
			t.Errorf("signature %q is %s", m.Signature, m.CheckSignature(key))
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	key := vectorKey(t)
	for what, change := range map[string]func(d *Draft){
		"no snapshot":             func(d *Draft) { d.Snapshot = name.Snapshot{} },
		"file twice":              func(d *Draft) { d.Files = append(d.Files, d.Files[1]) },
		"no name":                 func(d *Draft) { d.Files[0].Name = name.File{} },
		"itself":                  func(d *Draft) { d.Files[0].Name = name.Manifest },
		"the log":                 func(d *Draft) { d.Files[0].Name = name.ClientLog },
		"negative size":           func(d *Draft) { d.Files[0].Size = -1 },
		"huge size":               func(d *Draft) { d.Files[0].Size = maxSize + 1 },
		"no mode":                 func(d *Draft) { d.Files[0].Mode = 0 },
		"no mode of the key file": func(d *Draft) { d.Files[0] = File{Name: name.EncryptedKey} },
		"unknown mode":            func(d *Draft) { d.Files[0].Mode = 9 },
		"encrypted without a key": func(d *Draft) { d.Key = nil },
		"zero key":                func(d *Draft) { d.Key = new(keys.Key) },
		"notes are not text":      func(d *Draft) { d.Notes = "\xff" },
		"too many files":          func(d *Draft) { d.Files = make([]File, maxFiles+1) },
	} {
		d := vectorDraft(t, key)
		change(d)
		if file, err := d.Encode(); !errors.Is(err, ErrDraft) || file != nil {
			t.Errorf("%s: %d bytes, %v, want ErrDraft", what, len(file), err)
		}
	}
	d := vectorDraft(t, key)
	d.Notes = strings.Repeat("x", MaxDecoded)
	if _, err := d.Encode(); !errors.Is(err, ErrDraft) {
		t.Errorf("notes of 64 MiB: %v, want ErrDraft", err)
	}
}

// fixtureKeys opens the keys of the fixtures.
func fixtureKeys(t *testing.T, dir string) []*keys.Key {
	t.Helper()
	var all []*keys.Key
	for file, passphrase := range map[string]string{
		"key-none.json": "", "key-s3.json": "", "key-scrypt.json": "correct horse", "key-pbkdf2.json": "pbkdf2 pass",
	} {
		text, err := os.ReadFile(filepath.Join(dir, "keys", file))
		if err != nil {
			t.Fatal(err)
		}
		f, err := keys.ParseFile(text)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := f.Open([]byte(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		key, err := keys.New(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
	}
	return all
}

// Every manifest of real datastores, written again from what was read: the
// same bytes, and so the same signature.
func TestRealManifestsWrittenAgain(t *testing.T) {
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	ring := fixtureKeys(t, dir)
	count, signed := 0, 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Name() == ".chunks":
			return fs.SkipDir
		case e.Name() == name.Manifest.String():
			count++
			if writeAgain(t, path, ring) {
				signed++
			}
		}
		return nil
	})
	if err != nil || count < 25 || signed < 5 {
		t.Errorf("%d manifests, %d signed, %v, want more", count, signed, err)
	}
	t.Logf("%d manifests, %d signed", count, signed)
}

func writeAgain(t *testing.T, path string, ring []*keys.Key) (signed bool) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(file)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return false
	}
	d := &Draft{Snapshot: mustSnapshot(t, m.Type, m.ID, m.Time.Unix()), Files: m.Files, Notes: m.Notes}
	for _, key := range ring {
		if fp, ok := m.KeyFingerprint(); ok && fp == key.Fingerprint() {
			d.Key = key
		}
	}
	dec := json.NewDecoder(bytes.NewReader(m.Raw))
	dec.UseNumber()
	var raw map[string]any
	if err := dec.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	if got := appendPretty(nil, raw, ""); !bytes.Equal(got, m.Raw) {
		t.Errorf("%s: printed\n%s\nwant\n%s", path, got, m.Raw)
	}
	// What a later verification has left is not a writer's.
	unprotected, _ := raw["unprotected"].(map[string]any)
	delete(unprotected, "verify_state")
	if unprotected["chunk_upload_stats"] != nil {
		var stats struct {
			Unprotected struct {
				Stats struct {
					Count, Size, Duplicates uint64
					CompressedSize          uint64 `json:"compressed_size"`
				} `json:"chunk_upload_stats"`
			}
		}
		if err := json.Unmarshal(m.Raw, &stats); err != nil {
			t.Fatal(err)
		}
		s := UploadStats{}
		s.Count, s.Size = stats.Unprotected.Stats.Count, stats.Unprotected.Stats.Size
		s.CompressedSize, s.Duplicates = stats.Unprotected.Stats.CompressedSize, stats.Unprotected.Stats.Duplicates
		d.Stats = &s
	}
	got, err := d.JSON()
	if want := appendPretty(nil, raw, ""); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v, written\n%s\nwant\n%s", path, err, got, want)
	}
	return d.Key != nil
}
