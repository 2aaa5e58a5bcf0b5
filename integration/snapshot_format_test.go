package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/blob"
)

// likeness is a snapshot of a fixture whose images and files are written once more,
// with the same key: what a real client and server made of them is known.
type likeness struct {
	fixture, snapshot string
	key               string
	trees             bool
	mode              []string
}

// The same images, small files and trees give what the real client and server
// gave, field by field. Images are cut in the same places, so that even the
// names of their chunks are the same.
func TestSnapshotsAreLikeThoseOfTheRealClient(t *testing.T) {
	for _, c := range []likeness{
		{fixture: "ds-basic", snapshot: "vm/100/2023-11-14T22:30:00Z"},
		{fixture: "ds-basic", snapshot: "ns/prod/vm/102/2023-11-14T23:24:02Z"},
		{fixture: "ds-basic", snapshot: "host/alpha/2023-11-15T22:13:27Z", trees: true},
		{fixture: "ds-basic", snapshot: "host/tok-echo/2023-11-15T14:53:20Z", trees: true},
		{fixture: "ds-split", snapshot: "host/split/2023-11-14T22:30:00Z", trees: true, mode: []string{"--format", "split"}},
		{fixture: "ds-crypt", snapshot: "vm/200/2023-11-14T22:16:40Z", key: keyNone},
		{fixture: "ds-crypt", snapshot: "host/enc/2023-11-14T22:15:00Z", key: keyNone, trees: true},
		{fixture: "ds-crypt", snapshot: "host/scrypt/2023-11-14T22:18:20Z", key: keyScrypt, trees: true},
		{fixture: "ds-crypt", snapshot: "host/signed/2023-11-14T22:21:40Z", key: keyNone, trees: true, mode: []string{"--crypt-mode", "sign-only"}},
	} {
		t.Run(strings.ReplaceAll(c.snapshot, "/", "_"), func(t *testing.T) { c.test(t) })
	}
}

func (c likeness) test(t *testing.T) {
	needRoot(t) // to restore owners
	h := newHost(t)
	from := fixture(t, c.fixture)
	var read, write []string
	if c.key != "" {
		key := h.keyFile(c.key)
		if c.key != keyNone {
			key += ",password-file=" + h.file("pass", password(t, c.key))
		}
		read, write = []string{"--keyfile", key}, []string{"--keyfile", key}
	}
	m := h.mount(from, read...)
	parts := strings.Split(c.snapshot, "/")
	typ, id, _ := parts[len(parts)-3], parts[len(parts)-2], parts[len(parts)-1]
	theirs := storedManifest(t, from, c.snapshot)
	args, store := c.sources(t, m, subdir(t, h.dir, "restored"), theirs), bareStore(t, memoryDir(t))
	args = append(append(append(args, store, "--type", typ, "--id", id), write...), c.mode...)
	if len(parts) == 5 {
		args = append(args, "--ns", parts[1])
	}
	name := h.create(args...)
	ours := storedManifest(t, store, name)
	sameManifest(t, ours, theirs)
	for _, f := range filesIn(t, ours) {
		c.sameFile(t, filepath.Join(store, name), filepath.Join(from, c.snapshot), f, member(t, ours, f))
	}
}

// sources restores a snapshot and returns what it is to be written from.
func (c likeness) sources(t *testing.T, m *mount, to string, manifest map[string]any) (args []string) {
	t.Helper()
	for _, f := range filesIn(t, manifest) {
		stem := strings.TrimSuffix(f, filepath.Ext(f))
		stem = strings.Replace(stem, ".mpxar", ".pxar", 1)
		at := filepath.Join(to, stem)
		switch filepath.Ext(stem) {
		case ".pcat1", ".ppxar":
			continue
		case ".pxar":
			tool(t, "cp", "-a", m.path(c.snapshot, stem), at)
		default:
			tool(t, "cp", m.path(c.snapshot, stem), at)
		}
		args = append(args, stem+":"+at)
	}
	return args
}

// filesIn returns the names of the files that a manifest lists, in its order.
func filesIn(t *testing.T, manifest map[string]any) (out []string) {
	t.Helper()
	list, _ := manifest["files"].([]any)
	for _, f := range list {
		m, _ := f.(map[string]any)
		out = append(out, fmt.Sprint(m["filename"]))
	}
	if len(out) == 0 {
		t.Fatal("the manifest lists nothing")
	}
	return out
}

// sameManifest compares all that does not depend on when and by whom a snapshot
// was made.
func sameManifest(t *testing.T, ours, theirs map[string]any) {
	t.Helper()
	keys := func(m any) []string {
		object, _ := m.(map[string]any)
		return slices.DeleteFunc(slices.Sorted(maps.Keys(object)), func(k string) bool { return k == "verify_state" })
	}
	same := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("manifest: %s: got %v, want %v", what, got, want)
		}
	}
	same("keys", keys(ours), keys(theirs))
	same("unprotected keys", keys(ours["unprotected"]), keys(theirs["unprotected"]))
	for _, k := range []string{"backup-type", "backup-id"} {
		same(k, ours[k], theirs[k])
	}
	same("files", filesIn(t, ours), filesIn(t, theirs))
	unprotected, _ := ours["unprotected"].(map[string]any)
	others, _ := theirs["unprotected"].(map[string]any)
	same("key-fingerprint", unprotected["key-fingerprint"], others["key-fingerprint"])
	same("keys of the statistics", keys(unprotected["chunk_upload_stats"]), keys(others["chunk_upload_stats"]))
	signed := regexp.MustCompile(`^([0-9a-f]{64}|<nil>)$`)
	got, want := fmt.Sprint(ours["signature"]), fmt.Sprint(theirs["signature"])
	if !signed.MatchString(got) || (got == "<nil>") != (want == "<nil>") {
		t.Errorf("manifest: signature: got %s, like %s", got, want)
	}
	for _, f := range filesIn(t, ours) {
		a, b := member(t, ours, f), member(t, theirs, f)
		same(f+": keys", keys(a), keys(b))
		same(f+": crypt-mode", a["crypt-mode"], b["crypt-mode"])
	}
}

// sameFile compares a file of the snapshot, as it is stored, with that of the
// fixture, and with what the manifest says.
func (c likeness) sameFile(t *testing.T, ours, theirs, file string, line map[string]any) {
	t.Helper()
	a, err := os.ReadFile(filepath.Join(ours, file))
	must(t, err)
	b, err := os.ReadFile(filepath.Join(theirs, file))
	must(t, err)
	csum := sha256.Sum256(a)
	switch size := len(a); filepath.Ext(file) {
	case ".blob":
		if line["csum"] != hex.EncodeToString(csum[:]) || fmt.Sprint(line["size"]) != fmt.Sprint(size) {
			t.Errorf("%s: is of %d bytes and %x, and the manifest says %v", file, size, csum, line)
		}
		if line["crypt-mode"] == "encrypt" {
			// What is small is compressed by the one and not by the other.
			kinds := []string{"7b6785be222d4cf0", "e6591bbf0bbfd80b"}
			if got := hex.EncodeToString(a[:8]); !slices.Contains(kinds, got) {
				t.Errorf("%s: magic number %s, want one of %s", file, got, kinds)
			}
			return
		}
		sameBlob(t, file, a, b)
		return
	case ".didx":
		sameHeader(t, file, a, b, 64, line)
	case ".fidx":
		sameHeader(t, file, a, b, 80, line)
		if !bytes.Equal(a[64:80], b[64:80]) || !bytes.Equal(a[indexHeader:], b[indexHeader:]) {
			t.Errorf("%s: other sizes or digests than the real client's", file)
		}
	}
	if filepath.Ext(file) == ".didx" {
		last := len(a) - 40
		if end := binary.LittleEndian.Uint64(a[last:]); fmt.Sprint(line["size"]) != fmt.Sprint(end) {
			t.Errorf("%s: ends at %d, and the manifest says %v", file, end, line["size"])
		}
	}
}

func sameBlob(t *testing.T, file string, ours, theirs []byte) {
	t.Helper()
	a, err := blob.Decode(nil, ours, 1<<20, blob.MustPlain, nil)
	must(t, err)
	b, err := blob.Decode(nil, theirs, 1<<20, blob.MustPlain, nil)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("%s: %q became %q", file, b, a)
	}
}

// sameHeader compares the header of an index, whose reserved rest begins at
// rest.
func sameHeader(t *testing.T, file string, ours, theirs []byte, rest int, line map[string]any) {
	t.Helper()
	if !bytes.Equal(ours[:8], theirs[:8]) {
		t.Errorf("%s: magic number %x, want %x", file, ours[:8], theirs[:8])
	}
	// A random UUID (RFC 9562), and not the same one.
	if uuid := ours[8:24]; uuid[6]>>4 != 4 || uuid[8]>>6 != 2 || bytes.Equal(uuid, theirs[8:24]) {
		t.Errorf("%s: UUID %x", file, uuid)
	}
	info := int64(binary.LittleEndian.Uint64(ours[24:]))
	if theirs := int64(binary.LittleEndian.Uint64(theirs[24:])); info <= theirs {
		t.Errorf("%s: made at %d, and the fixture at %d", file, info, theirs)
	}
	csum := sha256.Sum256(ours[indexHeader:])
	if !bytes.Equal(ours[32:64], csum[:]) || line["csum"] != hex.EncodeToString(csum[:]) {
		t.Errorf("%s: checksum %x in the header, %v in the manifest, want %x", file, ours[32:64], line["csum"], csum)
	}
	if got := ours[rest:indexHeader]; !bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("%s: something is in the reserved part of the header", file)
	}
}
