package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestLoadSnapshotSeesChanges(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Unprotected["notes"] = "first"
	sn.Finish()
	r := p.reader()
	one := p.load(r, sn.Dir)
	if one.Manifest().Notes != "first" || one.Protected() || one.HasClientLog() {
		t.Errorf("notes %q, protected %v, log %v", one.Manifest().Notes, one.Protected(), one.HasClientLog())
	}
	if p.load(r, sn.Dir) != one {
		t.Error("an unchanged snapshot was read again")
	}
	sn.Unprotected["notes"] = "other" // of the same length
	sn.Finish()
	two := p.load(r, sn.Dir)
	if two.Manifest().Notes != "other" || two == one {
		t.Errorf("notes %q after a change, same as before: %v", two.Manifest().Notes, two == one)
	}
	p.Write(sn.Dir+"/.protected", nil)
	if three := p.load(r, sn.Dir); !three.Protected() || three == two {
		t.Error("a new protection is not seen")
	}
	p.Remove(sn.Dir + "/.protected")
	if four := p.load(r, sn.Dir); four.Protected() {
		t.Error("an end of the protection is not seen")
	}
	sn.Log("log\n")
	five := p.load(r, sn.Dir)
	if !five.HasClientLog() {
		t.Error("a new log is not seen")
	}
	if text, err := five.ReadClientLog(t.Context(), r); err != nil || string(text) != "log\n" {
		t.Errorf("log %q, %v", text, err)
	}
	p.Remove(sn.Dir)
	if _, err := store.LoadSnapshot(t.Context(), r, p.snapshotName(sn.Dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("snapshot that was removed: %v, want ErrNotExist", err)
	}
}

func TestDamagedManifest(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Finish()
	good, err := os.ReadFile(filepath.Join(p.Dir, sn.Dir, "index.json.blob"))
	if err != nil {
		t.Fatal(err)
	}
	r := p.reader()
	for what, raw := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "no JSON": storetest.Blob([]byte("{"), nil),
		"encrypted": storetest.Blob([]byte("{}"), storetest.NewKey(t, 1)),
	} {
		p.Write(sn.Dir+"/index.json.blob", raw)
		s, err := store.LoadSnapshot(t.Context(), r, p.snapshotName(sn.Dir))
		var own *store.Error
		if !errors.Is(err, store.ErrCorrupt) || !errors.As(err, &own) || own.Snapshot.Dir() != sn.Dir || own.Datastore != testName {
			t.Errorf("%s manifest: %v, %v, want corrupt data of the snapshot", what, s, err)
		}
	}
}

func TestReadBlob(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Blob("a.conf.blob", []byte("content"))
	sn.Blob("sum.conf.blob", []byte("content"))
	sn.Lines[1].Csum = strings.Repeat("00", 32)
	sn.Blob("size.conf.blob", []byte("content"))
	sn.Lines[2].Size++
	sn.Blob("gone.conf.blob", []byte("content"))
	sn.Blob("link.conf.blob", []byte("content"))
	sn.Blob("dir.conf.blob", []byte("content"))
	sn.Finish()
	p.Remove(sn.Dir + "/gone.conf.blob")
	p.Remove(sn.Dir + "/link.conf.blob")
	if err := os.Symlink("a.conf.blob", filepath.Join(p.Dir, sn.Dir, "link.conf.blob")); err != nil {
		t.Fatal(err)
	}
	p.Remove(sn.Dir + "/dir.conf.blob")
	p.Mkdir(sn.Dir + "/dir.conf.blob")
	r := p.reader()
	s := p.load(r, sn.Dir)
	if data, err := s.ReadBlob(t.Context(), r, p.line(s, "a.conf.blob")); err != nil || string(data) != "content" {
		t.Errorf("ReadBlob = %q, %v", data, err)
	}
	for _, file := range []string{"sum.conf.blob", "size.conf.blob", "gone.conf.blob", "link.conf.blob", "dir.conf.blob"} {
		data, err := s.ReadBlob(t.Context(), r, p.line(s, file))
		checkDamage(t, "ReadBlob("+file+")", err, file)
		if data != nil {
			t.Errorf("%s: %q came with the error", file, data)
		}
	}
}

// checkDamage checks that err is wrong bytes of one file, and no absence.
func checkDamage(t *testing.T, what string, err error, file string) {
	t.Helper()
	var own *store.Error
	if !errors.Is(err, store.ErrCorrupt) || !errors.As(err, &own) || own.File.String() != file {
		t.Errorf("%s: %v, want corrupt data in %s", what, err, file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v says that the user's file does not exist", what, err)
	}
}

// A snapshot that the server removed meanwhile is no damage.
func TestSnapshotRemovedWhileItIsRead(t *testing.T) {
	p := newPlace(t)
	sn := p.Snapshot(alpha, noon)
	sn.Blob("a.conf.blob", []byte("content"))
	digests := sn.Dynamic("x.didx", []byte("one"), []byte("two"))
	sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", "data")))
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	x, rest := p.stream(s, "x.didx"), p.line(s, "root.pxar.didx")
	if err := x.Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p.Remove(sn.Dir)
	p.Remove(storetest.ChunkFile(digests[0]))
	_, blobErr := s.ReadBlob(t.Context(), r, p.line(s, "a.conf.blob"))
	_, readErr := x.ReadAt(t.Context(), r, make([]byte, 3), 0)
	_, archiveErr := s.Archive(t.Context(), r, rest)
	for what, err := range map[string]error{"ReadBlob": blobErr, "ReadAt": readErr, "Archive": archiveErr} {
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrNotExist and no damage", what, err)
		}
	}
	// What is in memory stays right.
	buf := make([]byte, 3)
	if n, err := x.ReadAt(t.Context(), r, buf, 3); err != nil || string(buf) != "two" {
		t.Errorf("chunk that is still there: %q, %d, %v", buf, n, err)
	}
}

func TestKeys(t *testing.T) {
	key, other := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	for what, c := range map[string]struct {
		ring []*storetest.Key
		open bool
	}{
		"no key": {nil, false}, "the key": {[]*storetest.Key{key}, true},
		"another key": {[]*storetest.Key{other}, false}, "both": {[]*storetest.Key{other, key}, true},
	} {
		p := newPlace(t, c.ring...)
		sn := p.Snapshot(alpha, noon)
		sn.Key = key
		sn.Blob("a.conf.blob", []byte("content"))
		sn.Fixed("disk.img.fidx", 4096, make([]byte, 8192))
		sn.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("f", "data")))
		sn.Log("log")
		sn.Finish()
		r := p.reader()
		s := p.load(r, sn.Dir)
		_, blobErr := s.ReadBlob(t.Context(), r, p.line(s, "a.conf.blob"))
		_, streamErr := s.Stream(p.line(s, "disk.img.fidx"))
		_, archiveErr := s.Archive(t.Context(), r, p.line(s, "root.pxar.didx"))
		_, logErr := s.ReadClientLog(t.Context(), r)
		for where, err := range map[string]error{"ReadBlob": blobErr, "Stream": streamErr, "Archive": archiveErr, "ReadClientLog": logErr} {
			var need *store.KeyError
			switch {
			case c.open && err != nil:
				t.Errorf("%s, %s: %v", what, where, err)
			case !c.open && (!errors.Is(err, store.ErrKeyNeeded) || errors.Is(err, store.ErrCorrupt)):
				t.Errorf("%s, %s: %v, want ErrKeyNeeded", what, where, err)
			case !c.open && (!errors.As(err, &need) || need.Fingerprint != key.Fingerprint()):
				t.Errorf("%s, %s: %v does not name the key %s", what, where, err, key.Fingerprint().Short())
			}
		}
		if c.open {
			got := readAll(t, r, p.stream(s, "disk.img.fidx"), 8192)
			if strings.Trim(string(got), "\x00") != "" {
				t.Errorf("%s: image is not all zeros", what)
			}
		}
	}
}

// Without a fingerprint in the manifest the only key serves; what it does not
// fit is damage, and plain data never passes for encrypted.
func TestEncryptedWithoutFingerprint(t *testing.T) {
	key, other := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	p := newPlace(t, other)
	sn := p.Snapshot(alpha, noon)
	sn.Key = key
	sn.Dynamic("x.didx", []byte("secret"))
	sn.Key = other
	sn.Dynamic("y.didx", []byte("mine"))
	sn.Key = nil
	sn.Dynamic("z.didx", []byte("plain"))
	sn.Lines[2].CryptMode = "encrypt"
	sn.Finish()
	r := p.reader()
	s := p.load(r, sn.Dir)
	if got := readAll(t, r, p.stream(s, "y.didx"), 4); string(got) != "mine" {
		t.Errorf("y = %q", got)
	}
	for _, file := range []string{"x.didx", "z.didx"} {
		_, err := p.stream(s, file).ReadAt(t.Context(), r, make([]byte, 3), 0)
		checkDamage(t, file, err, file)
	}
}
