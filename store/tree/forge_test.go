package tree_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// forged is a snapshot of which nothing need be right but checksums and digests, which are
// made last.
type forged struct {
	archive *storetest.Forgery
	payload *storetest.Forgery // nil unless the archive is split
	catalog []byte             // nil for none
	index   []change           // to the indexes
	lines   []change           // to the lines of the manifest
	chunks  []change           // to the files of chunks
}

// change is one thing that a fuzzer asks for: what, where, and with which values.
type change struct{ what, a, b, c byte }

// odd are numbers that go wrong where they are believed.
var odd = []uint64{
	0, 1, 2, 15, 16, 17, 24, 39, 40, 56, 255, 4096, 4097, 65536, 1 << 20, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 40,
	math.MaxInt64 - 16, math.MaxInt64, 1 << 63, 1<<63 + 1, math.MaxUint64 - 16, math.MaxUint64 - 1, math.MaxUint64,
	1<<64 - 24, 1<<64 - 56, 1<<64 - 100, 100, 200, 0o120777, 0o40755, 0o100644, 0o20600, 0o10600,
}

// names are no names, or those of others.
var names = []string{"..", ".", "", "/", "a/b", "../../etc/passwd", "a\x00b", "f", "d", "l", strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("n", 4096)}

func pick[T any](from []T, i byte) T { return from[int(i)%len(from)] }

// treeToForge is what forgeries begin with: each kind of object, and what refers to what.
func treeToForge() *storetest.Node {
	f := storetest.File("f", strings.Repeat("content ", 40)).With("user.a", "b").With("security.capability", "c")
	sub := storetest.Dir("d", storetest.Link("l", f), storetest.Dir("dd", storetest.File("deep", "x")), storetest.File("g", ""))
	p := &storetest.Node{Name: "p", Mode: pxar.TypeFIFO | 0o600}
	return storetest.Dir("", f, sub, storetest.Device("dev"), p, storetest.Symlink("s", "../x"), storetest.File("z", "last"))
}

// forge reads changes: four bytes each.
func forge(base byte, program []byte) *forged {
	split := base&1 != 0
	root := treeToForge()
	archive, payload := storetest.Archive(root, split)
	out := &forged{archive: storetest.Forge(archive)}
	if split {
		out.payload = storetest.Forge(payload)
	}
	if base&2 != 0 {
		out.catalog = catalogBytes(root)
	}
	for ; len(program) >= 4 && len(program) <= 400; program = program[4:] {
		out.apply(change{program[0], program[1], program[2], program[3]})
	}
	return out
}

func (f *forged) apply(c change) {
	switch c.what % 24 {
	case 0:
		f.index = append(f.index, c)
	case 1:
		f.lines = append(f.lines, c)
	case 2:
		f.chunks = append(f.chunks, c)
	case 3:
		if len(f.catalog) > 0 {
			f.catalog[int(c.a)%len(f.catalog)] = pick([]byte{c.b, f.catalog[0], 0, 0xff, 'd', 'h', 'f', '/'}, c.c)
		}
	case 4:
		if f.payload != nil {
			changeItem(f.payload, change{c.a, c.b, c.c, c.a})
		}
	default:
		changeItem(f.archive, c)
	}
}

// changeItem changes an item, or the list of them.
func changeItem(f *storetest.Forgery, c change) {
	if len(f.Items) == 0 || len(f.Items) > 5000 {
		return
	}
	i := int(c.a) % len(f.Items)
	it := &f.Items[i]
	switch c.what % 24 {
	case 5:
		it.Type = pick(storetest.Types, c.b)
	case 6:
		it.Size = pick(odd, c.b)
	case 7:
		if len(it.Content) > 0 {
			it.Content[int(c.b)%len(it.Content)] ^= c.c
		}
	case 8:
		if at := 8 * int(c.b%8); at+8 <= len(it.Content) {
			binary.LittleEndian.PutUint64(it.Content[at:], pick(odd, c.c))
			it.Link = it.Link && at > 0
		}
	case 9:
		it.Content = bytes.Repeat(it.Content[:min(len(it.Content), int(c.b))], 1+int(c.c%4))
	case 10:
		f.Items = slices.Delete(f.Items, i, i+1)
	case 11:
		f.Items = slices.Insert(f.Items, int(c.b)%len(f.Items), *it)
	case 12:
		j := int(c.b) % len(f.Items)
		f.Items[i], f.Items[j] = f.Items[j], f.Items[i]
	case 13, 14, 15:
		changeSlot(it, c)
	case 16:
		it.To = int(c.b)
	case 17:
		f.Items = slices.Insert(f.Items, i, storetest.Item{Type: pick(storetest.Types, c.b), Content: bytes.Repeat([]byte{'x', c.c}, int(c.c)%64)})
	case 18: // many attributes
		more := storetest.Item{Type: pick([]uint64{storetest.TypeXattr, storetest.TypeACLUser, it.Type}, c.b), Content: append([]byte("user.x\x00"), make([]byte, 9)...)}
		f.Items = slices.Insert(f.Items, i, slices.Repeat([]storetest.Item{more}, 8*int(c.c))...)
	case 19:
		it.Content = append([]byte(pick(names, c.b)), 0)
	case 20:
		it.AsIs = true
	case 21: // a table below a table
		if j := int(c.b) % len(f.Items); j > i {
			f.Items = slices.Insert(f.Items, j, slices.Clone(f.Items[i:j])...)
		}
	}
}

func changeSlot(it *storetest.Item, c change) {
	if len(it.Slots) == 0 {
		return
	}
	s := &it.Slots[int(c.b)%len(it.Slots)]
	switch v := int(c.c); c.what % 24 {
	case 13:
		s.To = v
	case 14:
		s.End = v
	default:
		switch v % 6 {
		case 0:
			s.Back = pick(odd, c.c/6)
		case 1:
			s.Size = pick(odd, c.c/6)
		case 2:
			s.Hash = pick(odd, c.c/6)
		case 3:
			it.Slots = append(slices.Repeat([]storetest.Slot{*s}, v), it.Slots...)
		case 4:
			it.Slots[0], *s = *s, it.Slots[0]
		case 5:
			it.Slots = it.Slots[:len(it.Slots)-1]
		}
	}
}

// write writes the snapshot into a datastore. Checksums and digests are right.
func (f *forged) write(sn *storetest.Snapshot) {
	streams := map[string][]byte{"root.pxar.didx": f.archive.Bytes()}
	if f.payload != nil {
		streams = map[string][]byte{"root.mpxar.didx": f.archive.Bytes(), "root.ppxar.didx": f.payload.Bytes()}
	}
	if f.catalog != nil {
		streams[name.Catalog.String()] = f.catalog
	}
	files := []string{}
	for file := range streams {
		files = append(files, file)
	}
	slices.Sort(files)
	for i, file := range files {
		sn.DynamicOf(file, f.pieces(sn, byte(i), streams[file])...)
	}
	for _, c := range f.lines {
		changeLine(sn, c)
	}
	sn.Finish()
}

// pieces writes the chunks of a stream and returns its index.
func (f *forged) pieces(sn *storetest.Snapshot, number byte, stream []byte) []storetest.Piece {
	var out []storetest.Piece
	const length = 1500
	for part := range slices.Chunk(stream, length) {
		out = append(out, storetest.Piece{Digest: sn.Store().Chunk(part, nil), Size: len(part)})
	}
	for _, c := range f.chunks {
		if len(out) > 0 && c.a%4 == number {
			breakChunk(sn.Store(), pick(out, c.b).Digest, c.c)
		}
	}
	for _, c := range f.index {
		if len(out) == 0 || c.a%4 != number {
			continue
		}
		p := &out[int(c.b)%len(out)]
		switch c.c % 5 {
		case 0:
			p.Digest = pick(out, c.c/5).Digest
		case 1:
			p.Size = int(pick(odd, c.c/5) % (1 << 40))
		case 2:
			out = out[:int(c.b)%len(out)]
		case 3:
			out = slices.Insert(out, int(c.b)%len(out), slices.Repeat([]storetest.Piece{*p}, int(c.c))...)
		case 4:
			p.Digest[3] ^= c.c
		}
	}
	return out
}

// breakChunk damages the file of a chunk.
func breakChunk(s *storetest.Store, d name.Digest, how byte) {
	file := storetest.ChunkFile(d)
	switch how % 4 {
	case 0:
		s.Write(file, nil)
	case 1:
		s.Write(file, storetest.Blob([]byte("other bytes"), nil))
	case 2:
		s.Write(file, bytes.Repeat([]byte{how}, 64))
	case 3:
		s.Write(file, storetest.ZstdBomb(1<<20))
	}
}

func changeLine(sn *storetest.Snapshot, c change) {
	if len(sn.Lines) == 0 {
		return
	}
	l := &sn.Lines[int(c.a)%len(sn.Lines)]
	switch c.b % 6 {
	case 0:
		l.Size = int64(pick(odd, c.c))
	case 1:
		l.Csum = strings.Repeat(fmt.Sprintf("%02x", c.c), int(c.c)%40)
	case 2:
		l.Filename = pick([]string{"../../evil.didx", "", "a", "/etc/passwd.blob", "root.pxar.didx", "index.json.blob", "a\x00.didx", "root.ppxar.didx", "x.fidx"}, c.c)
	case 3:
		l.CryptMode = pick([]string{"encrypt", "sign-only", "none", "x", ""}, c.c)
	case 4:
		sn.Lines = append(sn.Lines, slices.Repeat([]storetest.Line{*l}, int(c.c))...)
	case 5:
		sn.Lines = slices.Delete(sn.Lines, 0, 1)
	}
}
