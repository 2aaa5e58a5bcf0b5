package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/store/name"
)

// Snapshot is a snapshot that is being written.
type Snapshot struct {
	// Dir is its directory below the datastore.
	Dir string
	// Key encrypts what is added from now on, unless it is nil.
	Key *Key
	// Lines are the files of the manifest; a test may change them.
	Lines []Line
	// Unprotected is the unsigned part of the manifest.
	Unprotected map[string]any
	// Signature is the signature of the manifest, "" for none.
	Signature string

	s        *Store
	typ, id  string
	unixTime int64
}

// Line is a file's line in the manifest.
type Line struct {
	Filename  string `json:"filename"`
	CryptMode string `json:"crypt-mode"`
	Size      int64  `json:"size"`
	Csum      string `json:"csum"`
}

// Snapshot begins a snapshot of a group, "ns/prod/host/alpha", at a time as
// its directory is called.
func (s *Store) Snapshot(group, at string) *Snapshot {
	s.t.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		s.t.Fatal(err)
	}
	parts := strings.Split(group, "/")
	if len(parts) < 2 {
		s.t.Fatalf("group %q has no type", group)
	}
	sn := &Snapshot{
		Dir: group + "/" + at, Unprotected: map[string]any{}, s: s,
		typ: parts[len(parts)-2], id: parts[len(parts)-1], unixTime: when.Unix(),
	}
	s.Mkdir(sn.Dir)
	return sn
}

// Finish writes the manifest. It may be called again after a change.
func (sn *Snapshot) Finish() {
	sn.s.t.Helper()
	if sn.Lines == nil {
		sn.Lines = []Line{}
	}
	if sn.Key != nil {
		sn.Unprotected["key-fingerprint"] = sn.Key.Fingerprint().String()
	}
	var signature any
	if sn.Signature != "" {
		signature = sn.Signature
	}
	text, err := json.Marshal(map[string]any{
		"backup-type": sn.typ, "backup-id": sn.id, "backup-time": sn.unixTime,
		"files": sn.Lines, "signature": signature, "unprotected": sn.Unprotected,
	})
	if err != nil {
		sn.s.t.Fatal(err)
	}
	sn.s.Write(sn.Dir+"/"+name.Manifest.String(), Blob(text, nil))
}

// Store returns the datastore of the snapshot.
func (sn *Snapshot) Store() *Store { return sn.s }

func (sn *Snapshot) add(file string, size int64, csum [32]byte) {
	mode := "none"
	if sn.Key != nil {
		mode = "encrypt"
	}
	sn.Lines = append(sn.Lines, Line{file, mode, size, hex.EncodeToString(csum[:])})
}

// Blob adds a blob.
func (sn *Snapshot) Blob(file string, data []byte) {
	sn.s.t.Helper()
	sn.Encoded(file, Blob(data, sn.Key))
}

// Log leaves the client's log, which no manifest lists.
func (sn *Snapshot) Log(text string) {
	sn.s.t.Helper()
	sn.s.Write(sn.Dir+"/"+name.ClientLog.String(), Blob([]byte(text), sn.Key))
}

// Dynamic adds a dynamic index of one chunk for each piece, and returns their
// digests.
func (sn *Snapshot) Dynamic(file string, pieces ...[]byte) []name.Digest {
	sn.s.t.Helper()
	var entries []byte
	var digests []name.Digest
	end := 0
	for _, p := range pieces {
		d := sn.s.Chunk(p, sn.Key)
		end += len(p)
		entries = append(binary.LittleEndian.AppendUint64(entries, uint64(end)), d[:]...)
		digests = append(digests, d)
	}
	sn.s.Write(sn.Dir+"/"+file, index("\x1c\x91\x4e\xa5\x19\xba\xb3\xcd", 0, 0, entries))
	sn.add(file, int64(end), sha256.Sum256(entries))
	return digests
}

// Piece is an entry of a dynamic index.
type Piece struct {
	Digest name.Digest
	Size   int
}

// DynamicOf adds a dynamic index of chunks that are there, or are not.
func (sn *Snapshot) DynamicOf(file string, pieces ...Piece) {
	sn.s.t.Helper()
	var entries []byte
	end := 0
	for _, p := range pieces {
		end += p.Size
		entries = append(binary.LittleEndian.AppendUint64(entries, uint64(end)), p.Digest[:]...)
	}
	sn.s.Write(sn.Dir+"/"+file, index("\x1c\x91\x4e\xa5\x19\xba\xb3\xcd", 0, 0, entries))
	sn.add(file, int64(end), sha256.Sum256(entries))
}

// FixedOf adds a fixed index that says what it says. Its entries are one chunk, n times.
func (sn *Snapshot) FixedOf(file string, size, chunkSize int, d name.Digest, n int) {
	sn.s.t.Helper()
	entries := bytes.Repeat(d[:], n)
	sn.s.Write(sn.Dir+"/"+file, index("\x2f\x7f\x41\xed\x91\xfd\x0f\xcd", size, chunkSize, entries))
	sn.add(file, int64(size), sha256.Sum256(entries))
}

// Encoded adds a blob as it shall be on disk.
func (sn *Snapshot) Encoded(file string, raw []byte) {
	sn.s.t.Helper()
	sn.s.Write(sn.Dir+"/"+file, raw)
	sn.add(file, int64(len(raw)), sha256.Sum256(raw))
}

// Fixed adds a fixed index of data in chunks of one size, and returns their
// digests.
func (sn *Snapshot) Fixed(file string, chunkSize int, data []byte) []name.Digest {
	sn.s.t.Helper()
	var entries []byte
	var digests []name.Digest
	for off := 0; off < len(data); off += chunkSize {
		d := sn.s.Chunk(data[off:min(off+chunkSize, len(data))], sn.Key)
		entries = append(entries, d[:]...)
		digests = append(digests, d)
	}
	sn.s.Write(sn.Dir+"/"+file, index("\x2f\x7f\x41\xed\x91\xfd\x0f\xcd", len(data), chunkSize, entries))
	sn.add(file, int64(len(data)), sha256.Sum256(entries))
	return digests
}

// indexHeader is the length of the header of an index.
const indexHeader = 4096

func index(magic string, size, chunkSize int, entries []byte) []byte {
	out := make([]byte, indexHeader, indexHeader+len(entries))
	copy(out, magic)
	binary.LittleEndian.PutUint64(out[64:], uint64(size))
	binary.LittleEndian.PutUint64(out[72:], uint64(chunkSize))
	return append(out, entries...)
}

// pieceSize is the length of the chunks that archives are cut into: short, so
// that small archives have several.
const pieceSize = 200

// Pieces cuts data as archives are cut.
func Pieces(data []byte) [][]byte {
	var out [][]byte
	for len(data) > 0 {
		n := min(pieceSize, len(data))
		out = append(out, data[:n])
		data = data[n:]
	}
	return out
}

// Pxar adds an archive in one file, and returns the digests of its chunks.
func (sn *Snapshot) Pxar(file string, root *Node) []name.Digest {
	sn.s.t.Helper()
	archive, _ := Archive(root, false)
	return sn.Dynamic(file, Pieces(archive)...)
}

// Split adds an archive as stem.mpxar and stem.ppxar, and returns the digests
// of the chunks of both.
func (sn *Snapshot) Split(stem string, root *Node) (meta, payload []name.Digest) {
	sn.s.t.Helper()
	m, p := Archive(root, true)
	return sn.Dynamic(stem+".mpxar.didx", Pieces(m)...), sn.Dynamic(stem+".ppxar.didx", Pieces(p)...)
}
