package storetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pbsfs/pbsfs/store/name"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// HostileFile is a file of a snapshot that somebody has made up.
type HostileFile struct {
	What string
	// Add adds it to a snapshot.
	Add func(sn *Snapshot)
	// Broken are paths below the snapshot that cannot be read or entered. Sizes are those of
	// what can be.
	Broken []string
	Sizes  map[string]int64
}

// bombed writes a chunk that becomes a GiB, and returns what it is called.
func bombed(sn *Snapshot) name.Digest {
	d := name.Digest{1, 2, 3}
	sn.s.Write(ChunkFile(d), ZstdBomb(gib))
	return d
}

// stretched is an archive with a file "f" in which something follows its ENTRY, or its PAYLOAD
// header if content is set: n chunks that are all the same. Nobody has as much disk.
func stretched(sn *Snapshot, content bool, chunk []byte, n int) {
	archive, _ := Archive(Dir("", File("f", "")), false)
	f := Forge(archive)
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
	pieces := []Piece{{Digest: sn.s.Chunk(b[:at], nil), Size: at}}
	same := Piece{Digest: sn.s.Chunk(chunk, nil), Size: len(chunk)}
	for range n {
		pieces = append(pieces, same)
	}
	pieces = append(pieces, Piece{Digest: sn.s.Chunk(b[at:], nil), Size: len(b) - at})
	sn.DynamicOf("big.pxar.didx", pieces...)
}

// ManyFiles returns a manifest with that many files.
func ManyFiles(n int) []byte {
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

// ManyLines returns a manifest with one file that many times.
func ManyLines(n int) []byte {
	one := ManyFiles(1)
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

func catalogItem(kind byte, called string, tail ...byte) []byte {
	return append(append(binary.AppendUvarint([]byte{kind}, uint64(len(called))), called...), tail...)
}

const catalogMagic = "\x91\xfd\x60\xf9\xc4\x67\x58\xd5"

// endless is a catalog in which each directory has two names for the one below it: 2^levels
// paths.
func endless(levels int) []byte {
	cat := []byte(catalogMagic)
	below := catalogBlock(&cat, catalogItem('h', "good"))
	for range levels {
		delta := binary.AppendUvarint(nil, uint64(len(cat)-below))
		below = catalogBlock(&cat, catalogItem('d', "a", delta...), catalogItem('d', "b", delta...))
	}
	return finished(cat, below)
}

// finished adds the directory of archives, and where it is.
func finished(cat []byte, top int) []byte {
	delta := binary.AppendUvarint(nil, uint64(len(cat)-top))
	root := catalogBlock(&cat, catalogItem('d', "root.pxar.didx", delta...))
	return binary.LittleEndian.AppendUint64(cat, uint64(root))
}

// flooded is a catalog with very many hard links that the archive does not have.
func flooded(n int) []byte {
	cat := []byte(catalogMagic)
	entries := [][]byte{}
	for i := range n {
		entries = append(entries, catalogItem('h', fmt.Sprint("l", i)))
	}
	return finished(cat, catalogBlock(&cat, entries...))
}

func withCatalog(cat []byte) func(sn *Snapshot) {
	return func(sn *Snapshot) {
		sn.Dynamic(name.Catalog.String(), Pieces(cat)...)
	}
}

// HostileFiles returns files, to be added to a snapshot with an archive "root.pxar" that has a
// file called good.
func HostileFiles() []HostileFile {
	return []HostileFile{
		{What: "a chunk that becomes a GiB, of an archive", Broken: []string{"bomb.pxar"}, Add: func(sn *Snapshot) {
			sn.DynamicOf("bomb.pxar.didx", Piece{Digest: bombed(sn), Size: 1000})
		}},
		{What: "a chunk that becomes a GiB, of an image", Broken: []string{"disk.img"}, Add: func(sn *Snapshot) {
			sn.FixedOf("disk.img.fidx", 10*gib, 4*mib, bombed(sn), 10*gib/(4*mib))
		}},
		{What: "an image of a million chunks that are the same", Sizes: map[string]int64{"disk.img": 1 << 42}, Add: func(sn *Snapshot) {
			sn.FixedOf("disk.img.fidx", 1<<42, 4*mib, sn.s.Chunk(make([]byte, 4*mib), nil), 1<<20)
		}},
		{What: "a file of 2 TiB, all in one chunk", Sizes: map[string]int64{"big.pxar/f": 1 << 41}, Add: func(sn *Snapshot) {
			stretched(sn, true, make([]byte, 16*mib), 1<<17)
		}},
		{What: "ten million attributes", Broken: []string{"big.pxar/f"}, Add: func(sn *Snapshot) {
			xattr := append(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, TypeXattr), 24), "user.a\x00b"...)
			stretched(sn, false, bytes.Repeat(xattr, 16*mib/24), 15)
		}},
		{What: "an index that claims 2^40 chunks", Broken: []string{"disk.img"}, Add: func(sn *Snapshot) {
			sn.FixedOf("disk.img.fidx", 4*mib<<38, 4*mib, name.Digest{}, 3)
		}},
		{What: "an index whose chunks go backwards", Broken: []string{"back.pxar"}, Add: func(sn *Snapshot) {
			sn.DynamicOf("back.pxar.didx", Piece{Size: 1000}, Piece{Size: -500}, Piece{Size: 1000})
		}},
		{What: "a chunk of 2^40 bytes", Broken: []string{"long.pxar"}, Add: func(sn *Snapshot) {
			sn.DynamicOf("long.pxar.didx", Piece{Size: 1 << 40})
		}},
		{What: "a catalog of 2^1000 paths", Add: withCatalog(endless(1000))},
		{What: "a catalog of 20,000 hard links that are none", Add: withCatalog(flooded(20_000))},
		{What: "a catalog whose directory is itself", Add: withCatalog(finished([]byte(catalogMagic+"\x04\x01d\x01a\x00"), 8))},
		{What: "a catalog whose directory lies before it", Add: withCatalog(finished([]byte(catalogMagic+"\x05\x01d\x01a\xff\x7f"), 8))},
	}
}
