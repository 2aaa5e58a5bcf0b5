package verify

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// noise is data that repeats nowhere.
func noise(seed uint64, n int) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

// files is a tree of files of all sizes beside the chunks, which have 200 bytes.
func files(seed uint64) *storetest.Node {
	big := storetest.File("big", noise(seed, 1500))
	return storetest.Dir("",
		storetest.File("small", "hello "+noise(seed+1, 3)),
		big,
		storetest.Dir("sub", storetest.File("one", noise(seed+2, 300)), storetest.Link("again", big), storetest.Dir("deep", storetest.File("two", noise(seed+3, 50)))),
		storetest.File("same", strings.Repeat(noise(seed+5, 4), 100)),
		storetest.Symlink("link", "big"),
		storetest.File("none", ""),
		storetest.Dir("last", storetest.File("three", noise(seed+4, 700))),
	)
}

// subject is a file that is damaged.
type subject struct {
	name, path string
	like       string // another valid file of its kind
	chunk      bool
	index      bool
	removed    bool // only that: what a chunk costs does not depend on what is wrong with it
}

// everyKind makes a datastore with files of each kind.
func everyKind(t *testing.T) (*place, []subject) {
	t.Helper()
	key := storetest.NewKey(t, 7)
	p := newPlace(t, key)
	var out []subject
	chunk := func(called string, list []name.Digest, i int) {
		out = append(out, subject{name: "chunk " + called, path: storetest.ChunkFile(list[i]), like: storetest.ChunkFile(list[(i+1)%len(list)]), chunk: true})
	}
	file := func(called, path, like string) {
		out = append(out, subject{name: called, path: path, like: like, index: strings.HasSuffix(path, "idx")})
	}
	root := files(1)
	old := p.Snapshot("host/alpha", morning)
	old.Pxar("root.pxar.didx", files(1)) // shares all of its chunks
	old.Blob("some.conf.blob", []byte("old"))
	old.Log("an older log")
	old.Finish()
	alpha := p.Snapshot("host/alpha", noon)
	plain := alpha.Pxar("root.pxar.didx", root)
	catalog := alpha.Catalog("root.pxar.didx", root)
	alpha.Blob("some.conf.blob", []byte("key: value"))
	alpha.Log("all is well")
	alpha.Finish()
	all := func(called string, list []name.Digest) {
		chunk(called, list, 1)
		for i := range list {
			chunk(called, list, i)
			out[len(out)-1].removed = true
		}
	}
	all("of an archive", plain)
	chunk("compressed", plain, p.compressOne(plain, nil))
	chunk("of a catalog", []name.Digest{catalog[0], plain[0]}, 0)
	file("dynamic index", alpha.Dir+"/root.pxar.didx", alpha.Dir+"/catalog.pcat1.didx")
	file("catalog", alpha.Dir+"/catalog.pcat1.didx", alpha.Dir+"/root.pxar.didx")
	file("blob", alpha.Dir+"/some.conf.blob", old.Dir+"/some.conf.blob")
	file("manifest", alpha.Dir+"/index.json.blob", old.Dir+"/index.json.blob")
	file("log", alpha.Dir+"/client.log.blob", old.Dir+"/client.log.blob")

	vm := p.Snapshot("vm/100", noon)
	image := vm.Fixed("drive-scsi0.img.fidx", 4096, []byte(noise(9, 6000)+strings.Repeat("\x00", 3*4096)+noise(10, 5000)))
	vm.Fixed("drive-scsi1.img.fidx", 4096, []byte(noise(11, 4096)))
	vm.Finish()
	chunk("of an image", image, 0)
	chunk("of zeros", image, 3)
	file("fixed index", vm.Dir+"/drive-scsi0.img.fidx", vm.Dir+"/drive-scsi1.img.fidx")

	split := p.Snapshot("host/split", noon)
	meta, payload := split.Split("sys", files(20))
	split.Finish()
	all("of split metadata", meta)
	all("of a payload", payload)
	file("metadata index", split.Dir+"/sys.mpxar.didx", split.Dir+"/sys.ppxar.didx")
	file("payload index", split.Dir+"/sys.ppxar.didx", split.Dir+"/sys.mpxar.didx")

	enc := p.Snapshot("host/enc", noon)
	enc.Key = key
	sealed := enc.Pxar("root.pxar.didx", files(40))
	enc.Blob("secret.conf.blob", []byte("secret"))
	enc.Blob("other.conf.blob", []byte("other"))
	enc.Log("a secret log")
	enc.Finish()
	all("encrypted", sealed)
	chunk("encrypted and compressed", sealed, p.compressOne(sealed, key))
	file("encrypted blob", enc.Dir+"/secret.conf.blob", enc.Dir+"/other.conf.blob")
	file("encrypted log", enc.Dir+"/client.log.blob", enc.Dir+"/secret.conf.blob")
	return p, out
}

// compressOne stores the first of the chunks anew that can be compressed.
func (p *place) compressOne(list []name.Digest, key *storetest.Key) int {
	p.t.Helper()
	enc, want := blob.Encoder{Compress: true}, blob.Zstd
	if key != nil {
		enc.Key, want = key.Key, blob.EncryptedZstd
	}
	for i, d := range list {
		raw, err := os.ReadFile(filepath.Join(p.Dir, storetest.ChunkFile(d)))
		if err != nil {
			p.t.Fatal(err)
		}
		data, err := blob.Decode(nil, raw, blob.MaxChunkSize, blob.AnyKind, enc.Key)
		if err != nil {
			p.t.Fatal(err)
		}
		if p.store(enc, d, data) == want {
			return i
		}
	}
	p.t.Fatal("no chunk can be compressed")
	return 0
}

// store stores a chunk and returns how.
func (p *place) store(enc blob.Encoder, d name.Digest, data []byte) blob.Kind {
	p.t.Helper()
	raw, err := enc.EncodeChunk(nil, data)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Write(storetest.ChunkFile(d), raw)
	kind, err := blob.ReadKind(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return kind
}

// notFound are the damages that nothing tells: of no manifest is known that there was one,
// nor of a log, which nothing has a checksum of either.
var notFound = map[string][]string{
	"manifest":      {"removed", "directory", "fifo", "link", "device"},
	"log":           {"removed", "another file", "swapped"},
	"encrypted log": {"removed", "another file"},
}

// Whatever is damaged, in whatever way, is found, and what it is said to cost are exactly
// the files, and the bytes of them, that cannot be read.
func TestDamageCostsWhatCannotBeRead(t *testing.T) {
	p, subjects := everyKind(t)
	if got := p.verify(Options{}); len(got.damage)+len(got.told) > 0 {
		t.Fatalf("before anything is damaged: %v, %v", got.damage, got.told)
	}
	for _, s := range subjects {
		for _, d := range storetest.Damages() {
			if s.removed && d.Name != "removed" {
				continue
			}
			undo, possible, err := d.Do(filepath.Join(p.Dir, s.path), filepath.Join(p.Dir, s.like), s.chunk, s.index)
			if err != nil {
				t.Fatal(err)
			}
			if !possible {
				continue
			}
			p.checkDamage(s.name+", "+d.Name, !slices.Contains(notFound[s.name], d.Name))
			if err := undo(); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				return
			}
		}
	}
}

func (p *place) checkDamage(what string, findable bool) {
	p.t.Helper()
	got, want := p.verify(Options{}), p.unreadable()
	if lost := got.lost(); !slices.Equal(lost, want) {
		p.t.Errorf("%s: costs\n  %s\nwhat cannot be read\n  %s", what, strings.Join(lost, "\n  "), strings.Join(want, "\n  "))
	}
	if hit := len(got.damage) > 0; hit != findable {
		p.t.Errorf("%s: got damage %v, want some: %v", what, got.damage, findable)
	}
	if len(want) > 0 && !findable {
		p.t.Errorf("%s: costs %v, and cannot be found", what, want)
	}
	if n := got.DamagedChunks.Load() + got.DamagedFiles.Load(); (n > 0) != findable {
		p.t.Errorf("%s: %d damaged are counted", what, n)
	}
}
