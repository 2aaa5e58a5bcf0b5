package storetest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Store is a datastore in a temporary directory.
type Store struct {
	Dir string
	t   testing.TB
}

// New makes an empty datastore.
func New(t testing.TB) *Store {
	t.Helper()
	s := &Store{Dir: filepath.Join(t.TempDir(), "ds"), t: t}
	s.Mkdir(".chunks")
	return s
}

// InMemory makes an empty datastore where nothing waits for a disk, if there is such a place.
func InMemory(t testing.TB) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pbsfs-test-")
	if err != nil {
		return New(t)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Store{Dir: filepath.Join(dir, "ds"), t: t}
	s.Mkdir(".chunks")
	return s
}

// In returns the datastore in a directory.
func In(t testing.TB, dir string) *Store { return &Store{Dir: dir, t: t} }

// Mkdir makes a directory below the datastore, and those above it.
func (s *Store) Mkdir(path string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Dir, path), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// Write writes a file below the datastore in one step, as a server does, and
// makes the directories above it.
func (s *Store) Write(path string, data []byte) {
	s.t.Helper()
	s.Mkdir(filepath.Dir(path))
	path = filepath.Join(s.Dir, path)
	if err := os.WriteFile(path+".tmp", data, 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		s.t.Fatal(err)
	}
}

// Remove removes a file or directory below the datastore, which must exist.
func (s *Store) Remove(path string) {
	s.t.Helper()
	path = filepath.Join(s.Dir, path)
	if _, err := os.Lstat(path); err != nil {
		s.t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		s.t.Fatal(err)
	}
}

// ChunkFile returns the path of a chunk below the datastore.
func ChunkFile(d name.Digest) string { return ".chunks/" + d.Prefix() + "/" + d.String() }

// Chunk writes a chunk, encrypted unless key is nil, and returns its digest.
func (s *Store) Chunk(data []byte, key *Key) name.Digest {
	s.t.Helper()
	d := name.Digest(sha256.Sum256(data))
	if key != nil {
		d = key.Digest(data)
	}
	s.Write(ChunkFile(d), Blob(data, key))
	return d
}

// Key is a data key whose bytes are known, so that data can be encrypted with
// it.
type Key struct {
	*keys.Key
	raw [32]byte
}

// NewKey returns the key whose 32 bytes all are b.
func NewKey(t testing.TB, b byte) *Key {
	t.Helper()
	k := &Key{}
	for i := range k.raw {
		k.raw[i] = b
	}
	var err error
	if k.Key, err = keys.New(k.raw); err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	plainMagic     = "\x42\xab\x38\x07\xbe\x83\x70\xa1"
	encryptedMagic = "\x7b\x67\x85\xbe\x22\x2d\x4c\xf0"
)

// Blob returns the blob that holds data, encrypted unless key is nil.
func Blob(data []byte, key *Key) []byte {
	magic, head, payload := plainMagic, []byte(nil), data
	if key != nil {
		block, err := aes.NewCipher(key.raw[:])
		if err != nil {
			panic(err) // the key has the right length
		}
		gcm, err := cipher.NewGCMWithNonceSize(block, keys.IVSize)
		if err != nil {
			panic(err) // as has the nonce
		}
		iv := sha256.Sum256(data) // never the same for other data
		sealed := gcm.Seal(nil, iv[:keys.IVSize], data, nil)
		magic, payload = encryptedMagic, sealed[:len(data)]
		head = append(append(head, iv[:keys.IVSize]...), sealed[len(data):]...)
	}
	out := binary.LittleEndian.AppendUint32([]byte(magic), crc32.ChecksumIEEE(payload))
	return append(append(out, head...), payload...)
}

// Compressed returns the blob that holds data, compressed.
func Compressed(data []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err) // there are no options that could be wrong
	}
	return compressed(z.EncodeAll(data, nil)) // which needs no Close
}

func compressed(frame []byte) []byte {
	const magic = "\x31\xb9\x58\x42\x6f\xb6\xa3\x7f"
	return append(binary.LittleEndian.AppendUint32([]byte(magic), crc32.ChecksumIEEE(frame)), frame...)
}

// ZstdBomb returns a compressed blob, with a right checksum, of size zeros: a few bytes for
// each 128 KiB. Its frame does not say how long it is.
func ZstdBomb(size int) []byte {
	const block, rle = 128 << 10, 1 << 1
	frame := []byte("\x28\xb5\x2f\xfd\x00\x58") // a window of 2 MiB
	for ; size > 0; size -= block {
		head := uint32(min(size, block))<<3 | rle
		if size <= block {
			head |= 1 // the last one
		}
		frame = append(frame, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return compressed(frame)
}

// Host returns a host of the test's own, without a PBS. The text of its
// datastore.cfg may be "".
func Host(t testing.TB, config string) hosts.Host {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "etc/datastore.cfg"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host, err := hosts.NewHost(hosts.HostOptions{
		ConfigDir: filepath.Join(dir, "etc"), RunDir: filepath.Join(dir, "run"),
		Getenv: func(string) string { return "" }, UID: os.Geteuid(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return host
}
