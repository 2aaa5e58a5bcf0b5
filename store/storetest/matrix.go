package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/name"
)

// Row is one kind of file of a datastore to which one thing has happened. Its group has all
// that it is about, and shares nothing with other rows.
type Row struct {
	Kind, Damage string
	// Group and Snapshot are directories of the datastore.
	Group, Snapshot string
	// Target is the file that is damaged, and Like the other one of its kind.
	Target, Like string
	// Truth is the content of each file of the tree below the group.
	Truth map[string]string
	// Hit are the paths below the group that may suffer, with all below them.
	Hit []string

	chunk, index bool
}

// RowTime is when the damaged snapshot of a row was made.
const RowTime = "2024-02-02T02:02:02Z"

const rowEarlier = "2024-01-01T01:01:01Z"

// rowMaker makes the group of a row.
type rowMaker struct {
	*Row
	s    *Store
	sn   *Snapshot
	seed uint64
}

// letters is data that repeats nowhere else and has no zeros.
func (m *rowMaker) letters(n int) string {
	m.seed++
	rng := rand.New(rand.NewPCG(m.seed, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b)
}

// archive returns a tree, and notes what is in it. Its names and attributes are in no other
// tree, so that it shares no chunk of metadata and no catalog either.
func (m *rowMaker) archive(called, big string) *Node {
	file := func(where, called, data string) *Node {
		m.Truth[filepath.Join(RowTime, where, called)] = data
		return File(called, data).With("user.row", m.letters(30))
	}
	return Dir("", file(called, m.letters(40), ""), file(called, "small", m.letters(20)), file(called, "big", big),
		Dir("sub", file(called+"/sub", "one", m.letters(30))))
}

// short is the length of a file none of whose chunks is meant, and long that of one with two
// chunks that have nothing else in them.
const (
	short = 40
	long  = 700
)

func (m *rowMaker) pxar(n int) (*Node, []name.Digest) {
	root := m.archive("root.pxar", m.letters(n))
	return root, m.sn.Pxar("root.pxar.didx", root)
}

// inBig returns which chunk of a stream has nothing but content of the file big in it, as
// the next one has.
func (m *rowMaker) inBig(stream []byte, archive string) int {
	return bytes.Index(stream, []byte(m.Truth[filepath.Join(RowTime, archive, "big")]))/pieceSize + 1
}

// inFile makes an archive of which a chunk with content is meant.
func (m *rowMaker) inFile() {
	root, list := m.pxar(long)
	stream, _ := Archive(root, false)
	m.chunks(list, m.inBig(stream, "root.pxar"), "root.pxar/big")
}

// chunks makes two chunks of an index the files that are meant.
func (m *rowMaker) chunks(list []name.Digest, i int, hit string) {
	m.chunk, m.Target, m.Like = true, ChunkFile(list[i]), ChunkFile(list[i+1])
	m.hit(hit)
}

// files makes two files of the snapshot the ones that are meant.
func (m *rowMaker) files(target, like string, hit ...string) {
	m.index = strings.HasSuffix(target, "idx")
	m.Target, m.Like = m.sn.Dir+"/"+target, m.sn.Dir+"/"+like
	m.hit(hit...)
}

func (m *rowMaker) hit(paths ...string) {
	for _, p := range paths {
		m.Hit = append(m.Hit, filepath.Join(RowTime, p))
	}
}

func (m *rowMaker) blob(called string) {
	text := m.letters(50)
	m.sn.Blob(called+".blob", []byte(text))
	m.Truth[RowTime+"/"+called] = text
}

func (m *rowMaker) image(called string, blocks int) []name.Digest {
	const size = 4096
	image := []byte(m.letters(blocks * size))
	clear(image[size : 2*size]) // a hole
	m.Truth[RowTime+"/"+called] = string(image)
	return m.sn.Fixed(called+".fidx", size, image)
}

// catalog makes the catalog of an archive, which is shown as it is.
func (m *rowMaker) catalog(root *Node) []name.Digest {
	m.s.t.Helper()
	list := m.sn.Catalog("root.pxar.didx", root)
	for _, d := range list {
		raw, err := os.ReadFile(filepath.Join(m.s.Dir, ChunkFile(d)))
		if err != nil {
			m.s.t.Fatal(err)
		}
		m.Truth[RowTime+"/catalog.pcat1"] += string(raw[blobHeader:])
	}
	return list
}

// blobHeader is the length of the header of a blob that is neither encrypted nor compressed.
const blobHeader = 12

// compress stores a chunk anew that can be compressed.
func (m *rowMaker) compress(d name.Digest) {
	m.s.t.Helper()
	enc := blob.Encoder{Compress: true}
	if m.sn.Key != nil {
		enc.Key = m.sn.Key.Key
	}
	raw, err := os.ReadFile(filepath.Join(m.s.Dir, ChunkFile(d)))
	if err != nil {
		m.s.t.Fatal(err)
	}
	data, err := blob.Decode(nil, raw, blob.MaxChunkSize, blob.AnyKind, enc.Key)
	if err == nil {
		raw, err = enc.EncodeChunk(nil, data)
	}
	if err != nil {
		m.s.t.Fatal(err)
	}
	if kind, err := blob.ReadKind(raw); err != nil || kind != blob.Zstd && kind != blob.EncryptedZstd {
		m.s.t.Fatalf("the chunk cannot be compressed: %v, %v", kind, err)
	}
	m.s.Write(ChunkFile(d), raw)
}

// compressed makes an archive of which a compressed chunk is meant.
func (m *rowMaker) compressed() {
	root := m.archive("root.pxar", strings.Repeat(m.letters(90), 8))
	list := m.sn.Pxar("root.pxar.didx", root)
	stream, _ := Archive(root, false)
	i := m.inBig(stream, "root.pxar")
	m.compress(list[i])
	m.chunks(list, i, "root.pxar/big")
}

// rowKinds are the kinds of files that a datastore has, each with what makes an example.
var rowKinds = []struct {
	name   string
	sealed bool
	make   func(m *rowMaker)
}{
	{"chunk of a file", false, (*rowMaker).inFile},
	{"chunk, compressed", false, (*rowMaker).compressed},
	{"chunk, encrypted", true, (*rowMaker).inFile},
	{"chunk, encrypted and compressed", true, (*rowMaker).compressed},
	{"chunk of metadata", false, func(m *rowMaker) {
		meta, _ := m.sn.Split("sys", m.archive("sys.pxar", m.letters(short)))
		m.chunks(meta, 1, "sys.pxar")
	}},
	{"chunk of a payload", false, func(m *rowMaker) {
		root := m.archive("sys.pxar", m.letters(long))
		_, payload := m.sn.Split("sys", root)
		_, stream := Archive(root, true)
		m.chunks(payload, m.inBig(stream, "sys.pxar"), "sys.pxar/big")
	}},
	{"chunk of a catalog", false, func(m *rowMaker) {
		root, list := m.pxar(short)
		m.chunks([]name.Digest{m.catalog(root)[0], list[3]}, 0, "catalog.pcat1")
	}},
	{"chunk of an image", false, func(m *rowMaker) { m.chunks(m.image("disk.img", 4), 2, "disk.img") }},
	{"dynamic index", false, func(m *rowMaker) {
		m.pxar(short)
		m.sn.Pxar("other.pxar.didx", m.archive("other.pxar", m.letters(short)))
		m.files("root.pxar.didx", "other.pxar.didx", "root.pxar")
	}},
	{"metadata index", false, func(m *rowMaker) {
		m.sn.Split("sys", m.archive("sys.pxar", m.letters(short)))
		m.files("sys.mpxar.didx", "sys.ppxar.didx", "sys.pxar")
	}},
	{"payload index", false, func(m *rowMaker) {
		m.sn.Split("sys", m.archive("sys.pxar", m.letters(short)))
		m.files("sys.ppxar.didx", "sys.mpxar.didx", "sys.pxar")
	}},
	{"catalog", false, func(m *rowMaker) {
		root, _ := m.pxar(short)
		m.catalog(root)
		m.files("catalog.pcat1.didx", "root.pxar.didx", "catalog.pcat1")
	}},
	{"fixed index", false, func(m *rowMaker) {
		m.image("disk.img", 3)
		m.image("other.img", 3)
		m.files("disk.img.fidx", "other.img.fidx", "disk.img")
	}},
	{"blob", false, func(m *rowMaker) {
		m.blob("a.conf")
		m.blob("b.conf")
		m.files("a.conf.blob", "b.conf.blob", "a.conf")
	}},
	{"blob, encrypted", true, func(m *rowMaker) {
		m.blob("a.conf")
		m.blob("b.conf")
		m.files("a.conf.blob", "b.conf.blob", "a.conf")
	}},
	{"client log", false, func(m *rowMaker) {
		text := m.letters(40)
		m.sn.Log(text)
		m.Truth[RowTime+"/client.log"] = text
		m.files("client.log.blob", "z.conf.blob", "client.log")
	}},
	{"manifest", false, func(m *rowMaker) {
		m.pxar(short)
		old := m.s.Snapshot(m.Group, rowEarlier)
		old.Blob("z.conf.blob", []byte("the old one"))
		m.Truth[rowEarlier+"/z.conf"] = "the old one"
		old.Finish()
		m.Target, m.Like = m.sn.Dir+"/index.json.blob", old.Dir+"/index.json.blob"
		m.hit("")
	}},
	{"owner", false, func(m *rowMaker) { m.groupFile("owner", "notes") }},
	{"notes", false, func(m *rowMaker) { m.groupFile("notes", "owner") }},
	{zeroKind, false, func(m *rowMaker) {
		list := m.image("disk.img", 3)
		m.chunks([]name.Digest{list[1], list[2]}, 0, "disk.img")
	}},
}

// zeroKind is the chunk that all images have in common. It can only be damaged once, in the
// end.
const zeroKind = "chunk of zeros"

func (m *rowMaker) groupFile(target, like string) {
	m.Target, m.Like, m.Hit = m.Group+"/"+target, m.Group+"/"+like, []string{target}
	for _, f := range []string{target, like} {
		m.Truth[f] = "the " + f + " of this group\n"
		m.s.Write(m.Group+"/"+f, []byte(m.Truth[f]))
	}
}

// MatrixOptions say which rows a matrix has.
type MatrixOptions struct {
	// Key opens what is encrypted.
	Key *Key
	// Kinds are the kinds of files; nil means all.
	Kinds []string
	// Objects leaves out damages that objects of a bucket cannot have.
	Objects bool
	// Others are further damages, which the caller does.
	Others []string
}

// Matrix makes a datastore in which everything of [Damages] has happened to each kind of
// file.
func (s *Store) Matrix(o MatrixOptions) []Row {
	s.t.Helper()
	var rows []Row
	for k, kind := range rowKinds {
		if o.Kinds != nil && !slices.Contains(o.Kinds, kind.name) {
			continue
		}
		add := func(damage string) *rowMaker {
			m := &rowMaker{Row: &Row{Kind: kind.name, Damage: damage, Truth: make(map[string]string)}, s: s, seed: uint64(len(rows)+1) << 16}
			m.Group = fmt.Sprintf("host/r%02d-%03d", k, len(rows))
			m.sn = s.Snapshot(m.Group, RowTime)
			m.Snapshot = m.sn.Dir
			if kind.sealed {
				m.sn.Key = o.Key
			}
			kind.make(m)
			m.blob("z.conf") // which nothing else has to do with
			m.sn.Finish()
			return m
		}
		for _, d := range Damages() {
			if kind.name == zeroKind && d.Name != "removed" || o.Objects && d.place != nil && d.Name != "removed" {
				continue
			}
			m := add(d.Name)
			_, possible, err := d.Do(filepath.Join(s.Dir, m.Target), filepath.Join(s.Dir, m.Like), m.chunk, m.index)
			if err != nil {
				s.t.Fatal(err)
			}
			if !possible {
				s.Remove(m.Group)
				continue
			}
			if d.swap {
				m.alsoHit()
			}
			rows = append(rows, *m.Row)
		}
		for _, other := range o.Others {
			if kind.name == zeroKind {
				break
			}
			rows = append(rows, *add(other).Row)
		}
	}
	return rows
}

// alsoHit adds what suffers when the other file has the bytes of the one that is meant.
func (m *rowMaker) alsoHit() {
	if m.chunk {
		m.hit("") // the chunk beside it may hold anything
		return
	}
	rel, _ := strings.CutPrefix(m.Like, m.Group+"/")
	for _, stored := range []string{".didx", ".fidx", ".blob"} {
		rel = strings.TrimSuffix(rel, stored)
	}
	switch {
	case strings.HasSuffix(rel, "/index.json"):
		rel = filepath.Dir(rel)
	case strings.HasSuffix(rel, ".mpxar"), strings.HasSuffix(rel, ".ppxar"):
		rel = strings.TrimSuffix(strings.TrimSuffix(rel, ".mpxar"), ".ppxar") + ".pxar"
	}
	m.Hit = append(m.Hit, rel)
}
