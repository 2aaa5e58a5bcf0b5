package manifest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

// encode wraps the text into a blob with the magic number.
func encode(magic string, payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(magic), crc32.ChecksumIEEE(payload))
	return append(b, payload...)
}

const (
	plainMagic = "\x42\xab\x38\x07\xbe\x83\x70\xa1"
	zstdMagic  = "\x31\xb9\x58\x42\x6f\xb6\xa3\x7f"
	cryptMagic = "\x7b\x67\x85\xbe\x22\x2d\x4c\xf0"
)

func compress(t testing.TB, text []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(text, nil)
}

// sum returns a checksum of 64 equal digits.
func sum(digit string) string { return strings.Repeat(digit, 64) }

// withFiles returns a manifest of host/alpha with the entries.
func withFiles(entries ...string) string {
	return `{"backup-type":"host","backup-id":"alpha","backup-time":1700003600,"files":[` +
		strings.Join(entries, ",") + `],"signature":null,"unprotected":{}}`
}

// withUnprotected returns a manifest of host/alpha with the members.
func withUnprotected(members string) string {
	return `{"backup-type":"host","backup-id":"alpha","backup-time":1700003600,"files":[],"unprotected":` + members + `}`
}

func entry(file, mode string, size int) string {
	return fmt.Sprintf(`{"filename":%q,"crypt-mode":%q,"size":%d,"csum":%q}`, file, mode, size, sum("a"))
}

func mustDecode(t *testing.T, text string) *Manifest {
	t.Helper()
	m, err := Decode(encode(plainMagic, []byte(text)))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func mustFile(t testing.TB, s string) name.File {
	t.Helper()
	f, err := name.ParseFile(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// full has everything that reference "datastore-layout", section 6, describes.
const full = `{
  "backup-id": "alpha",
  "backup-time": 1700003600,
  "backup-type": "host",
  "files": [
    {"crypt-mode": "encrypt", "csum": "ef8c26b507c78934795a7a9609f3e1cdd409175e729597f70ccb827d72b7ff80", "filename": "root.pxar.didx", "size": 10004153},
    {"crypt-mode": "sign-only", "csum": "0101010101010101010101010101010101010101010101010101010101010101", "filename": "drive-scsi0.img.fidx", "size": 4611686018427387904},
    {"crypt-mode": "none", "csum": "0202020202020202020202020202020202020202020202020202020202020202", "filename": "qemu-server.conf.blob", "size": 0},
    {"crypt-mode": "encrypt", "csum": "0303030303030303030303030303030303030303030303030303030303030303", "filename": "rsa-encrypted.key.blob", "size": 524},
    {"csum": "0404040404040404040404040404040404040404040404040404040404040404", "filename": "old.blob", "size": 12, "unknown": [1, {"a": null}]}
  ],
  "signature": "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9",
  "unprotected": {
    "chunk_upload_stats": {"compressed_size": 2273000, "count": 4, "duplicates": 0, "size": 10062003},
    "key-fingerprint": "ba:e3:ef:e4:bd:25:9f:f6:eb:b5:db:26:35:c7:73:9f:ca:c6:77:b5:7d:25:bb:a7:cc:ea:7b:7e:41:e0:f4:90",
    "notes": "first snapshot of alpha\nsecond line – ünïcode",
    "verify_state": {"state": "failed", "upid": "UPID:vm:00000F7A:000432C8:00000002:6B011596:verify:ds:root@pam:"}
  }
}`

func TestDecodeReadsEverything(t *testing.T) {
	for what, encoded := range map[string][]byte{
		"plain": encode(plainMagic, []byte(full)),
		"zstd":  encode(zstdMagic, compress(t, []byte(full))),
	} {
		m, err := Decode(encoded)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if m.Type != name.Host || m.ID != "alpha" || m.Time.String() != "2023-11-14T23:13:20Z" {
			t.Errorf("%s: snapshot %s/%s/%s", what, m.Type, m.ID, m.Time)
		}
		if len(m.Files) != 5 || len(m.Problems) != 0 || len(m.UnprotectedProblems) != 0 {
			t.Fatalf("%s: %d files, problems %v, %v", what, len(m.Files), m.Problems, m.UnprotectedProblems)
		}
		if !strings.HasPrefix(m.Signature, "d7b446fb") || string(m.Raw) != full || !m.Encrypted() {
			t.Errorf("%s: signature %q, encrypted %v", what, m.Signature, m.Encrypted())
		}
		if !strings.HasSuffix(m.Notes, "\nsecond line – ünïcode") || m.VerifyState != "failed" {
			t.Errorf("%s: notes %q, state %q", what, m.Notes, m.VerifyState)
		}
		if fp, ok := m.KeyFingerprint(); !ok || fp.Short() != "ba:e3:ef:e4:bd:25:9f:f6" {
			t.Errorf("%s: fingerprint %s, %v", what, fp, ok)
		}
		if got := m.Files[1].Size; got != 1<<62 {
			t.Errorf("%s: size %d, want 2^62", what, got)
		}
		if got := fmt.Sprintf("%x", m.Files[3].Csum); got != strings.Repeat("03", 32) {
			t.Errorf("%s: csum %s", what, got)
		}
	}
}

func TestBlobModeFollowsTheCryptMode(t *testing.T) {
	m := mustDecode(t, full)
	tests := []struct {
		file string
		mode CryptMode
		want blob.Mode
	}{
		{"root.pxar.didx", CryptModeEncrypt, blob.MustEncrypted},
		{"drive-scsi0.img.fidx", CryptModeSignOnly, blob.MustPlain},
		{"qemu-server.conf.blob", CryptModeNone, blob.MustPlain},
		{"rsa-encrypted.key.blob", CryptModeEncrypt, blob.MustPlain},
		{"old.blob", CryptModeNone, blob.MustPlain},
	}
	for _, tt := range tests {
		f, ok := m.Lookup(mustFile(t, tt.file))
		if !ok || f.Mode != tt.mode || f.BlobMode() != tt.want {
			t.Errorf("%s: found %v, mode %s, blob mode %s, want %s, %s", tt.file, ok, f.Mode, f.BlobMode(), tt.mode, tt.want)
		}
	}
	if _, ok := m.Lookup(mustFile(t, "absent.blob")); ok {
		t.Error("Lookup found a file that is not listed")
	}
	if got := (File{}).BlobMode(); got == blob.AnyKind || got == blob.MustPlain || got == blob.MustEncrypted {
		t.Errorf("zero File has blob mode %s", got)
	}
}

// The fields that old or unsigned manifests lack.
func TestDecodeTolerates(t *testing.T) {
	for _, text := range []string{
		withFiles(),
		withUnprotected(`null`),
		withUnprotected(`{"notes":null,"key-fingerprint":null,"verify_state":null}`),
		`{"backup-type":"vm","backup-id":"100","backup-time":1,"files":[]}`,
		` { "x":{"files":1}, "backup-type":"ct","backup-id":"1","backup-time":1,"files":[ ],"signature":null, "y":[[]] } `,
	} {
		m := mustDecode(t, text)
		fp, known := m.KeyFingerprint()
		if len(m.Files)+len(m.Problems)+len(m.UnprotectedProblems) != 0 || m.Signature != "" || m.Notes != "" || m.VerifyState != "" || known {
			t.Errorf("%s: %+v, %s", text, m, fp)
		}
		if m.Encrypted() {
			t.Errorf("%s: Encrypted", text)
		}
	}
}

// A file that is unusable costs that file only, and is recorded.
func TestUnusableFilesBecomeProblems(t *testing.T) {
	good := entry("good.blob", "none", 1)
	tests := []struct{ what, bad string }{
		{"leaves the directory", entry("../../x.blob", "none", 1)},
		{"slash", entry("a/b.blob", "none", 1)},
		{"hidden", entry(".protected.blob", "none", 1)},
		{"NUL", `{"filename":"a\u0000.blob","size":1,"csum":"` + sum("a") + `"}`},
		{"no extension", entry("README", "none", 1)},
		{"empty name", entry("", "none", 1)},
		{"long name", entry(strings.Repeat("a", 251)+".blob", "none", 1)},
		{"huge name", entry(strings.Repeat("a", 1<<19)+".blob", "none", 1)},
		{"the manifest itself", entry("index.json.blob", "none", 1)},
		{"duplicate", entry("good.blob", "none", 2)},
		{"no name", `{"size":1,"csum":"` + sum("a") + `"}`},
		{"name is a number", `{"filename":7,"size":1,"csum":"` + sum("a") + `"}`},
		{"key in another case", `{"Filename":"x.blob","size":1,"csum":"` + sum("a") + `"}`},
		{"negative size", entry("x.blob", "none", -1)},
		{"size above 2^62", `{"filename":"x.blob","size":4611686018427387905,"csum":"` + sum("a") + `"}`},
		{"size above 2^64", `{"filename":"x.blob","size":18446744073709551616,"csum":"` + sum("a") + `"}`},
		{"fraction", `{"filename":"x.blob","size":1.5,"csum":"` + sum("a") + `"}`},
		{"size is a string", `{"filename":"x.blob","size":"1","csum":"` + sum("a") + `"}`},
		{"no size", `{"filename":"x.blob","csum":"` + sum("a") + `"}`},
		{"null size", `{"filename":"x.blob","size":null,"csum":"` + sum("a") + `"}`},
		{"no csum", `{"filename":"x.blob","size":1}`},
		{"short csum", `{"filename":"x.blob","size":1,"csum":"` + sum("a")[1:] + `"}`},
		{"csum is no hex", `{"filename":"x.blob","size":1,"csum":"` + sum("g") + `"}`},
		{"unknown crypt mode", entry("x.blob", "Encrypt", 1)},
		{"crypt mode is a number", `{"filename":"x.blob","size":1,"crypt-mode":1,"csum":"` + sum("a") + `"}`},
		{"entry is a string", `"x.blob"`},
		{"entry is null", `null`},
		{"entry is an array", `[]`},
	}
	for _, tt := range tests {
		m := mustDecode(t, withFiles(good, tt.bad))
		if len(m.Files) != 1 || m.Files[0].Name.String() != "good.blob" || m.Files[0].Size != 1 {
			t.Errorf("%s: files %v, want good.blob only", tt.what, m.Files)
		}
		if len(m.Problems) != 1 || !errors.Is(m.Problems[0], corrupt.Err) {
			t.Errorf("%s: problems %v, want one that is corrupt", tt.what, m.Problems)
		} else if text := m.Problems[0].Error(); len(text) > 1000 {
			t.Errorf("%s: problem of %d bytes", tt.what, len(text))
		}
	}
}

func TestFirstEntryOfANameCountsEvenIfUnusable(t *testing.T) {
	m := mustDecode(t, withFiles(entry("x.blob", "none", -1), entry("x.blob", "none", 1)))
	if len(m.Files) != 0 || len(m.Problems) != 2 {
		t.Errorf("files %v, problems %v, want none and 2", m.Files, m.Problems)
	}
}

func TestProblemsAndFilesAreLimited(t *testing.T) {
	m := mustDecode(t, withFiles(strings.Split(strings.Repeat("0,", 1000)+"0", ",")...))
	if len(m.Problems) != maxProblems+1 {
		t.Errorf("%d problems, want %d", len(m.Problems), maxProblems+1)
	}
	text := withFiles(strings.Split(strings.Repeat("0,", maxFiles)+"0", ",")...)
	if _, err := Decode(encode(plainMagic, []byte(text))); !errors.Is(err, corrupt.Err) {
		t.Errorf("with too many files: %v, want a corrupt error", err)
	}
}

// As the server's JSON reader does it. Whoever checks a signature over the
// text must come to the same members.
func TestLastOfEqualKeysCounts(t *testing.T) {
	m := mustDecode(t, `{"backup-id":"a","backup-id":"b","BACKUP-ID":"c","backup-type":"host","backup-time":1,"files":[],"Files":[1]}`)
	var any map[string]any
	if err := json.Unmarshal(m.Raw, &any); err != nil {
		t.Fatal(err)
	}
	if m.ID != "b" || any["backup-id"] != "b" || len(m.Problems) != 0 {
		t.Errorf("id %q, generic %q, problems %v, want b", m.ID, any["backup-id"], m.Problems)
	}
}

func TestUnusableUnprotectedFieldsCostThemselvesOnly(t *testing.T) {
	for _, members := range []string{
		`7`, `[]`, `"x"`,
		`{"notes":7}`,
		`{"key-fingerprint":"ba:e3"}`,
		`{"key-fingerprint":{}}`,
		`{"verify_state":"ok"}`,
		`{"verify_state":{}}`,
		`{"verify_state":{"state":"new"}}`,
		`{"verify_state":{"state":7}}`,
	} {
		m := mustDecode(t, withUnprotected(members))
		if _, ok := m.KeyFingerprint(); ok || m.Notes != "" || m.VerifyState != "" {
			t.Errorf("%s: something was read from it", members)
		}
		if len(m.UnprotectedProblems) != 1 || !errors.Is(m.UnprotectedProblems[0], corrupt.Err) || len(m.Problems) != 0 {
			t.Errorf("%s: problems %v, files %v", members, m.UnprotectedProblems, m.Problems)
		}
	}
	m := mustDecode(t, withUnprotected(`{"notes":7,"verify_state":{"state":"ok"}}`))
	if m.VerifyState != "ok" {
		t.Errorf("state %q beside unusable notes, want ok", m.VerifyState)
	}
}

func TestDecodeRefuses(t *testing.T) {
	replace := func(from, to string) string { return strings.Replace(withFiles(), from, to, 1) }
	texts := map[string]string{
		"no JSON":             `{`,
		"empty":               ``,
		"array":               `[]`,
		"null":                `null`,
		"string":              `"x"`,
		"trailing text":       withFiles() + `x`,
		"second object":       withFiles() + withFiles(),
		"deep nesting":        strings.Repeat(`{"a":`, 1<<20),
		"deep arrays":         `{"a":` + strings.Repeat(`[`, 1<<20) + strings.Repeat(`]`, 1<<20) + `}`,
		"no type":             replace(`"backup-type"`, `"x"`),
		"unknown type":        replace(`"host"`, `"lxc"`),
		"type in upper case":  replace(`"host"`, `"HOST"`),
		"null id":             replace(`"alpha"`, `null`),
		"empty id":            replace(`"alpha"`, `""`),
		"id leaves":           replace(`"alpha"`, `"../x"`),
		"id is a number":      replace(`"alpha"`, `100`),
		"huge id":             replace(`"alpha"`, `"`+strings.Repeat("a", 1<<20)+`"`),
		"no time":             replace(`"backup-time"`, `"x"`),
		"time is a string":    replace(`1700003600`, `"1700003600"`),
		"fraction":            replace(`1700003600`, `1.5`),
		"time above 9999":     replace(`1700003600`, `253402300800`),
		"time below 0":        replace(`1700003600`, `-62167219201`),
		"time 2^63-1":         replace(`1700003600`, `9223372036854775807`),
		"time -2^63":          replace(`1700003600`, `-9223372036854775808`),
		"time 2^63":           replace(`1700003600`, `9223372036854775808`),
		"no files":            replace(`"files"`, `"x"`),
		"files is an object":  replace(`[]`, `{}`),
		"files is null":       replace(`[]`, `null`),
		"signature is number": replace(`"signature":null`, `"signature":7`),
	}
	encodings := map[string][]byte{
		"encrypted":      encode(cryptMagic, append(make([]byte, 32), full...)),
		"no blob":        []byte(full),
		"wrong CRC":      append(encode(plainMagic, []byte(full)), ' '),
		"encoded longer": encode(plainMagic, append([]byte(full), bytes.Repeat([]byte(" "), MaxEncoded)...)),
		"decoded longer": encode(zstdMagic, compress(t, append([]byte(full), bytes.Repeat([]byte(" "), MaxDecoded)...))),
	}
	for what, text := range texts {
		encodings[what] = encode(plainMagic, []byte(text))
	}
	for what, encoded := range encodings {
		m, err := Decode(encoded)
		if !errors.Is(err, corrupt.Err) || m != nil {
			t.Errorf("%s: Decode = %v, %v, want a corrupt error", what, m, err)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%s: error of %d bytes", what, len(err.Error()))
		}
	}
}

func TestMovedFrom(t *testing.T) {
	m := mustDecode(t, withFiles())
	tests := []struct {
		typ  name.Type
		id   string
		sec  int64
		want bool
	}{
		{name.Host, "alpha", 1700003600, true},
		{name.CT, "alpha", 1700003600, false},
		{name.Host, "beta", 1700003600, false},
		{name.Host, "alpha", 1700003601, false},
	}
	ns, err := name.ParseNamespace("any/where")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		for _, ns := range []name.Namespace{{}, ns} {
			g, err := name.NewGroup(ns, tt.typ, tt.id)
			if err != nil {
				t.Fatal(err)
			}
			at, err := name.NewTime(time.Unix(tt.sec, 0))
			if err != nil {
				t.Fatal(err)
			}
			s, err := name.NewSnapshot(g, at)
			if err != nil {
				t.Fatal(err)
			}
			from, moved := m.MovedFrom(s)
			if moved == tt.want || moved != (from == "host/alpha/2023-11-14T23:13:20Z") {
				t.Errorf("MovedFrom(%s) = %q, %v, want match %v", s, from, moved, tt.want)
			}
		}
	}
}
