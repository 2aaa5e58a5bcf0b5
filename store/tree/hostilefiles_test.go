package tree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/storetest"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// hostileFile is a file of a snapshot that somebody has made up, beside an archive with a file
// called good.
type hostileFile struct {
	what string
	make func(t *testing.T, sn *storetest.Snapshot)
	// broken cannot be read or entered; "" is the snapshot itself. Those of sizes have them.
	broken []string
	sizes  map[string]int64
}

// bombed writes a chunk that becomes a GiB, and returns what it is called.
func bombed(sn *storetest.Snapshot) name.Digest {
	d := name.Digest{1, 2, 3}
	sn.Store().Write(storetest.ChunkFile(d), storetest.ZstdBomb(gib))
	return d
}

// stretched is an archive with a file "f" in which something follows its ENTRY, or its PAYLOAD
// header if content is set: n chunks that are all the same. Nobody has as much disk.
func stretched(sn *storetest.Snapshot, content bool, chunk []byte, n int) {
	archive, _ := storetest.Archive(storetest.Dir("", storetest.File("f", "")), false)
	f := storetest.Forge(archive)
	length := uint64(n) * uint64(len(chunk))
	cut := 3 // items before
	if content {
		f.Items[3].Size = 16 + length
		cut = 4
	}
	top := table(f, 0).Slots
	top[0].Back, top[0].Size, top[1].Back = length, length, length
	b := f.Bytes()
	at := 0
	for i := range cut {
		at += 16 + len(f.Items[i].Content)
	}
	pieces := []storetest.Piece{{Digest: sn.Store().Chunk(b[:at], nil), Size: at}}
	same := storetest.Piece{Digest: sn.Store().Chunk(chunk, nil), Size: len(chunk)}
	for range n {
		pieces = append(pieces, same)
	}
	pieces = append(pieces, storetest.Piece{Digest: sn.Store().Chunk(b[at:], nil), Size: len(b) - at})
	sn.DynamicOf("big.pxar.didx", pieces...)
}

// manyFiles returns a manifest with that many files.
func manyFiles(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"backup-type":"host","backup-id":"a","backup-time":1699963200,"unprotected":{},"signature":null,"files":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"filename":"f%d.blob","crypt-mode":"none","size":100,"csum":"%064x"}`, i, i)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// manyLines returns a manifest with one file that many times.
func manyLines(n int) []byte {
	one := manyFiles(1)
	at := bytes.IndexByte(one, '[') + 1
	line := append(bytes.Clone(one[at:len(one)-2]), ',')
	return slices.Concat(one[:at], bytes.Repeat(line, n-1), one[at:])
}

// catalogBlock appends a directory block and returns where it begins.
func catalogBlock(cat *[]byte, entries ...[]byte) int {
	at := len(*cat)
	body := bytes.Join(append([][]byte{binary.AppendUvarint(nil, uint64(len(entries)))}, entries...), nil)
	*cat = append(binary.AppendUvarint(*cat, uint64(len(body))), body...)
	return at
}

func catalogEntry(kind byte, called string, tail ...byte) []byte {
	return append(append(binary.AppendUvarint([]byte{kind}, uint64(len(called))), called...), tail...)
}

const catalogMagic = "\x91\xfd\x60\xf9\xc4\x67\x58\xd5"

// endless is a catalog in which each directory has two names for the one below it: 2^levels
// paths.
func endless(levels int) []byte {
	cat := []byte(catalogMagic)
	below := catalogBlock(&cat, catalogEntry('h', "good"))
	for range levels {
		delta := binary.AppendUvarint(nil, uint64(len(cat)-below))
		below = catalogBlock(&cat, catalogEntry('d', "a", delta...), catalogEntry('d', "b", delta...))
	}
	return finished(cat, below)
}

// finished adds the directory of archives, and where it is.
func finished(cat []byte, top int) []byte {
	delta := binary.AppendUvarint(nil, uint64(len(cat)-top))
	root := catalogBlock(&cat, catalogEntry('d', "root.pxar.didx", delta...))
	return binary.LittleEndian.AppendUint64(cat, uint64(root))
}

// flooded is a catalog with very many hard links that the archive does not have.
func flooded(n int) []byte {
	cat := []byte(catalogMagic)
	entries := [][]byte{}
	for i := range n {
		entries = append(entries, catalogEntry('h', fmt.Sprint("l", i)))
	}
	return finished(cat, catalogBlock(&cat, entries...))
}

func withCatalog(cat []byte) func(*testing.T, *storetest.Snapshot) {
	return func(_ *testing.T, sn *storetest.Snapshot) {
		sn.Dynamic(name.Catalog.String(), storetest.Pieces(cat)...)
	}
}

func files() []hostileFile {
	return []hostileFile{
		{what: "a chunk that becomes a GiB, of an archive", broken: []string{"bomb.pxar"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.DynamicOf("bomb.pxar.didx", storetest.Piece{Digest: bombed(sn), Size: 1000})
		}},
		{what: "a chunk that becomes a GiB, of an image", broken: []string{"disk.img"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.FixedOf("disk.img.fidx", 10*gib, 4*mib, bombed(sn), 10*gib/(4*mib))
		}},
		{what: "an image of a million chunks that are the same", sizes: map[string]int64{"disk.img": 1 << 42}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.FixedOf("disk.img.fidx", 1<<42, 4*mib, sn.Store().Chunk(make([]byte, 4*mib), nil), 1<<20)
		}},
		{what: "a file of 2 TiB, all in one chunk", sizes: map[string]int64{"big.pxar/f": 1 << 41}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			stretched(sn, true, make([]byte, 16*mib), 1<<17)
		}},
		{what: "ten million attributes", broken: []string{"big.pxar/f"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			xattr := append(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, storetest.TypeXattr), 24), "user.a\x00b"...)
			stretched(sn, false, bytes.Repeat(xattr, 16*mib/24), 15)
		}},
		{what: "an index that claims 2^40 chunks", broken: []string{"disk.img"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.FixedOf("disk.img.fidx", 4*mib<<38, 4*mib, name.Digest{}, 3)
		}},
		{what: "an index whose chunks go backwards", broken: []string{"back.pxar"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.DynamicOf("back.pxar.didx", storetest.Piece{Size: 1000}, storetest.Piece{Size: -500}, storetest.Piece{Size: 1000})
		}},
		{what: "a chunk of 2^40 bytes", broken: []string{"long.pxar"}, make: func(_ *testing.T, sn *storetest.Snapshot) {
			sn.DynamicOf("long.pxar.didx", storetest.Piece{Size: 1 << 40})
		}},
		{what: "a catalog of 2^1000 paths", make: withCatalog(endless(1000))},
		{what: "a catalog of 20,000 hard links that are none", make: withCatalog(flooded(20_000))},
		{what: "a catalog whose directory is itself", make: withCatalog(finished([]byte(catalogMagic+"\x04\x01d\x01a\x00"), 8))},
		{what: "a catalog whose directory lies before it", make: withCatalog(finished([]byte(catalogMagic+"\x05\x01d\x01a\xff\x7f"), 8))},
	}
}

// manifests are made up as a whole.
func manifests() map[string]struct {
	raw    []byte
	listed int // names in the snapshot, 0 if it cannot be entered
} {
	return map[string]struct {
		raw    []byte
		listed int
	}{
		"that becomes a GiB":                 {storetest.ZstdBomb(gib), 0},
		"of 20 MiB":                          {storetest.Blob(append(manyFiles(1), bytes.Repeat([]byte(" "), 20*mib)...), nil), 0},
		"of a million files":                 {storetest.Compressed(manyLines(1_000_000)), 0},
		"of 7,000 files":                     {storetest.Compressed(manyFiles(7_000)), 7_001},
		"of a million levels":                {storetest.Blob([]byte(`{"files":`+strings.Repeat("[", 1_000_000)), nil), 0},
		"of a million levels, and their end": {storetest.Compressed([]byte(`{"files":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}")), 0},
	}
}

// TestHostileFiles has files of snapshots made up: what lies beside them can be read, they give
// errors about damage, and nothing takes long or much memory.
func TestHostileFiles(t *testing.T) {
	for _, h := range files() {
		t.Run(h.what, func(t *testing.T) { h.test(t, func(v *view, dir string) { survey(t, v, dir, true, 512*mib) }) })
	}
}

// test writes the snapshot, looks at it, and checks what can be read and what cannot.
func (h hostileFile) test(t *testing.T, look func(v *view, dir string)) {
	t.Helper()
	s := storetest.InMemory(t)
	sn := s.Snapshot("host/a", noon)
	sn.Pxar("root.pxar.didx", storetest.Dir("", fine("good")))
	h.make(t, sn)
	sn.Finish()
	v := open(t, s)
	look(v, sn.Dir)
	if got := v.read(sn.Dir + "/root.pxar/good"); got != "fine" {
		t.Errorf("what lies beside says %q", got)
	}
	for _, p := range h.broken {
		if err := v.use(sn.Dir + "/" + p); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want damage", p, err)
		}
	}
	for p, want := range h.sizes {
		if got := v.walk(sn.Dir + "/" + p).Attr().Size; got != want {
			t.Errorf("%s has %d bytes, want %d", p, got, want)
		}
	}
}

func TestHostileManifests(t *testing.T) {
	for what, m := range manifests() {
		t.Run(what, func(t *testing.T) {
			s := storetest.InMemory(t)
			good := s.Snapshot("host/a", evening)
			good.Pxar("root.pxar.didx", storetest.Dir("", fine("good")))
			good.Finish()
			dir := "host/a/" + noon
			s.Write(dir+"/"+name.Manifest.String(), m.raw)
			v := open(t, s)
			before := allocated()
			n := v.walk(dir)
			l, err := n.List(t.Context(), v.r)
			switch {
			case m.listed == 0 && !errors.Is(err, store.ErrCorrupt):
				t.Errorf("it can be entered: %v", err)
			case m.listed > 0 && (err != nil || l.Len() != m.listed):
				t.Errorf("%v, want %d names", err, m.listed)
			}
			if got := allocated() - before; got > 512*mib {
				t.Errorf("it took %d MiB of memory", got/mib)
			}
			if got := v.read(good.Dir + "/root.pxar/good"); got != "fine" {
				t.Errorf("what lies beside says %q", got)
			}
		})
	}
}
