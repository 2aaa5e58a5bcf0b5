package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// sealedHeader is how long the header of an encrypted chunk is: magic, CRC, IV,
// tag.
const sealedHeader = 8 + 4 + keys.IVSize + keys.TagSize

// flips are how many random places of a chunk's body are altered.
const flips = 1000

// A chunk of which any byte was altered, its checksum corrected or not, gives no
// byte.
func TestAlteredEncryptedChunks(t *testing.T) {
	t.Run("made here", func(t *testing.T) {
		key := storetest.NewKey(t, 7)
		p := newPlace(t, key)
		sn := p.Snapshot("host/alpha", noon)
		sn.Key = key
		random := rand.NewChaCha8([32]byte{1})
		content := make([]byte, 64<<10)
		if _, err := random.Read(content); err != nil {
			t.Fatal(err)
		}
		digests := sn.Dynamic("x.didx", content)
		sn.Finish()
		r := p.reader()
		x := p.stream(p.load(r, sn.Dir), "x.didx")
		flipEverywhere(t, r, x, filepath.Join(p.Dir, storetest.ChunkFile(digests[0])), content)
	})
	t.Run("of a real server", func(t *testing.T) {
		dir := os.Getenv("PBSFS_FIXTURES")
		if dir == "" {
			t.Skip("PBSFS_FIXTURES is not set: not tested on a chunk of a real server")
		}
		flipRealChunk(t, dir)
	})
}

// flipEverywhere alters the only chunk of a stream.
func flipEverywhere(t *testing.T, r *store.Reader, x *store.Stream, path string, want []byte) {
	t.Helper()
	pristine, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 2))
	places := make([]int, 0, sealedHeader+flips)
	for at := range sealedHeader {
		places = append(places, at)
	}
	for range flips {
		places = append(places, sealedHeader+random.IntN(len(pristine)-sealedHeader))
	}
	crc := func(sum uint32) []byte { return binary.LittleEndian.AppendUint32(nil, sum) }
	body := bytes.Clone(pristine[sealedHeader:])
	for _, at := range places {
		b := pristine[at] ^ byte(1+random.IntN(255))
		write(t, f, at, []byte{b})
		wantAltered(t, r, x, fmt.Sprintf("byte %d", at))
		if at >= sealedHeader { // the tag must find it, not the checksum
			body[at-sealedHeader] = b
			write(t, f, 8, crc(crc32.ChecksumIEEE(body)))
			wantAltered(t, r, x, fmt.Sprintf("byte %d, with a right checksum", at))
			body[at-sealedHeader] = pristine[at]
			write(t, f, 8, pristine[8:12])
		}
		write(t, f, at, pristine[at:at+1])
	}
	// Nothing else kept it from being read.
	if got := readAll(t, r, x, len(want)); !bytes.Equal(got, want) {
		t.Error("the chunk, put right again, has other content")
	}
}

func write(t *testing.T, f *os.File, at int, b []byte) {
	t.Helper()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
}

func wantAltered(t *testing.T, r *store.Reader, x *store.Stream, what string) {
	t.Helper()
	buf := bytes.Repeat([]byte{0xa5}, 16)
	n, err := x.ReadAt(t.Context(), r, buf, 0)
	if n != 0 || !errors.Is(err, corrupt.Err) || !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%s altered: read %d bytes, %v, want damage", what, n, err)
	}
	if !bytes.Equal(buf, bytes.Repeat([]byte{0xa5}, 16)) {
		t.Errorf("%s altered: bytes were handed out", what)
	}
}

// flipRealChunk alters the first chunk of a small archive that a real client
// encrypted and compressed, in a copy.
func flipRealChunk(t *testing.T, fixtures string) {
	t.Helper()
	const dir = "host/pbkdf2/2023-11-14T22:20:00Z"
	from, to := filepath.Join(fixtures, "ds-crypt"), filepath.Join(t.TempDir(), "ds")
	if err := errors.Join(
		os.CopyFS(filepath.Join(to, ".chunks"), os.DirFS(filepath.Join(from, ".chunks"))),
		os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(from, dir))),
	); err != nil {
		t.Fatal(err)
	}
	host := storetest.Host(t, "datastore: "+testName+"\n\tpath "+to+"\n")
	ref, err := store.Open(t.Context(), store.Options{Name: testName, Path: to, Host: host, Keys: []*keys.Key{realKey(t, fixtures)}})
	if err != nil {
		t.Fatal(err)
	}
	defer ref.Close()
	r, err := ref.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	p := &place{Store: &storetest.Store{Dir: to}, t: t}
	s := p.load(r, dir)
	x := p.stream(s, "etc.pxar.didx")

	// What it holds, read by another reference and so in another cache.
	again, err := store.Open(t.Context(), store.Options{Name: testName, Path: to, Host: host, Keys: []*keys.Key{realKey(t, fixtures)}})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var want []byte
	err = again.View(t.Context(), func(r *store.Reader) error {
		want = make([]byte, x.Size())
		_, err := p.stream(p.load(r, dir), "etc.pxar.didx").ReadAt(t.Context(), r, want, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(to, dir, "etc.pxar.didx"))
	if err != nil {
		t.Fatal(err)
	}
	flipEverywhere(t, r, x, filepath.Join(to, storetest.ChunkFile(name.Digest(index[4096+8:4096+40]))), want)
}

// realKey opens the key that protects the archive.
func realKey(t *testing.T, fixtures string) *keys.Key {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixtures, "keys", "key-pbkdf2.json"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := keys.ParseFile(text)
	if err != nil {
		t.Fatal(err)
	}
	passwords, err := os.ReadFile(filepath.Join(fixtures, "keys", "passwords.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]string
	if err := json.Unmarshal(passwords, &all); err != nil {
		t.Fatal(err)
	}
	raw, err := f.Open([]byte(all["key-pbkdf2.json"]))
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A key that is added opens what was locked, from the next look on, and changes
// nothing else.
func TestAddKey(t *testing.T) {
	one, two := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	p := newPlace(t)
	for group, key := range map[string]*storetest.Key{"host/one": one, "host/two": two} {
		sn := p.Snapshot(group, noon)
		sn.Key = key
		sn.Dynamic("x.didx", []byte("content of "+group))
		sn.Finish()
	}
	r := p.reader()
	open := func(dir string) error {
		s := p.load(r, dir)
		x, err := s.Stream(p.line(s, "x.didx"))
		if err != nil {
			return err
		}
		_, err = x.ReadAt(context.Background(), r, make([]byte, 1), 0)
		return err
	}
	const dirOne, dirTwo = "host/one/" + noon, "host/two/" + noon
	for _, dir := range []string{dirOne, dirTwo} {
		if err := open(dir); !errors.Is(err, store.ErrKeyNeeded) {
			t.Errorf("%s without a key: %v, want ErrKeyNeeded", dir, err)
		}
	}
	for range 2 { // the second time changes nothing
		if err := p.ref.AddKey(two.Key); err != nil {
			t.Fatal(err)
		}
		if err := open(dirTwo); err != nil {
			t.Errorf("%s with its key: %v", dirTwo, err)
		}
		if err := open(dirOne); !errors.Is(err, store.ErrKeyNeeded) {
			t.Errorf("%s with another key: %v, want ErrKeyNeeded", dirOne, err)
		}
	}
	if err := new(store.Lookup).AddKey(one.Key); !errors.Is(err, store.ErrReleased) {
		t.Errorf("adding a key to the zero Lookup: %v, want ErrReleased", err)
	}
}

// A manifest that names no key, as old clients wrote them, is served by the only
// key there is. Of two, none is tried.
func TestManifestWithoutFingerprint(t *testing.T) {
	one, two := storetest.NewKey(t, 1), storetest.NewKey(t, 2)
	for _, c := range []struct {
		name string
		ring []*storetest.Key
		want error
	}{
		{"no key", nil, store.ErrKeyNeeded},
		{"its key", []*storetest.Key{one}, nil},
		{"another key", []*storetest.Key{two}, store.ErrCorrupt},
		{"two keys", []*storetest.Key{one, two}, store.ErrKeyNeeded},
	} {
		p := newPlace(t, c.ring...)
		sn := p.Snapshot(alpha, noon)
		sn.Key = one
		sn.Dynamic("x.didx", []byte("content"))
		sn.Key = nil // and with it the fingerprint
		sn.Finish()
		r := p.reader()
		s := p.load(r, sn.Dir)
		x, err := s.Stream(p.line(s, "x.didx"))
		if err == nil {
			_, err = x.ReadAt(t.Context(), r, make([]byte, 7), 0)
		}
		if c.want == nil && err != nil && !errors.Is(err, io.EOF) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
