package storetest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"regexp"

	"golang.org/x/sys/unix"
)

// Damage is something that can happen to a file of a datastore.
type Damage struct {
	Name string
	// bytes returns what is in the file afterwards; like is another valid file of its
	// kind. It returns false if that cannot happen to such a file.
	bytes func(raw, like []byte) ([]byte, bool)
	// place makes something else in the place of the file, or beside it.
	place func(path string) error
	// swap says that the other file gets the bytes of this one.
	swap bool
	// not for indexes, or for chunks only
	noIndex, onlyChunk bool
	// root says that only root can do it.
	root bool
}

// Damages is all that can happen to a file: other bytes, or something else in its place.
// It is the one table that tests of damage have.
func Damages() []Damage {
	list := []Damage{
		{Name: "bit of the magic number", bytes: flipped(func(int) int { return 3 })},
		// No checksum covers the rest of the header of an index.
		{Name: "bit of the CRC", bytes: flipped(func(int) int { return 9 }), noIndex: true},
		{Name: "bit behind the header", bytes: flipped(func(n int) int { return min(n-1, indexHeader+3) })},
		{Name: "bit in the middle", bytes: flipped(func(n int) int { return n / 2 }), noIndex: true},
		{Name: "last bit", bytes: flipped(func(n int) int { return n - 1 })},
		{Name: "half", bytes: always(func(raw, _ []byte) []byte { return raw[:len(raw)/2] })},
		{Name: "a byte less", bytes: always(func(raw, _ []byte) []byte { return raw[:len(raw)-1] })},
		{Name: "a byte more", bytes: always(func(raw, _ []byte) []byte { return append(bytes.Clone(raw), 0) })},
		{Name: "grown", bytes: always(func(raw, _ []byte) []byte { return append(bytes.Clone(raw), make([]byte, 1<<20)...) })},
		{Name: "header only", bytes: always(func(raw, _ []byte) []byte { return raw[:min(10, len(raw))] })},
		{Name: "absurd lengths", bytes: absurd},
		{Name: "absurd sizes listed", bytes: absurdLines},
		{Name: "empty", bytes: always(func([]byte, []byte) []byte { return nil })},
		{Name: "another file", bytes: always(func(_, like []byte) []byte { return like })},
		{Name: "swapped", bytes: always(func(_, like []byte) []byte { return like }), swap: true},
		{Name: "removed", place: func(string) error { return nil }},
		{Name: "directory", place: func(path string) error { return os.Mkdir(path, 0o755) }},
		{Name: "fifo", place: func(path string) error { return unix.Mkfifo(path, 0o644) }},
		{Name: "link", place: func(path string) error { return os.Symlink("/etc/passwd", path) }},
		{Name: "device", place: func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) }, root: true},
		{Name: "marked bad", place: func(path string) error { return os.WriteFile(path+".0.bad", []byte("x"), 0o644) }, onlyChunk: true},
	}
	if os.Geteuid() != 0 {
		all := list
		list = nil
		for _, d := range all {
			if !d.root {
				list = append(list, d)
			}
		}
	}
	return list
}

func always(fn func(raw, like []byte) []byte) func(raw, like []byte) ([]byte, bool) {
	return func(raw, like []byte) ([]byte, bool) { return fn(raw, like), true }
}

// flipped is a file with one bit that is not as it was.
func flipped(off func(n int) int) func(raw, like []byte) ([]byte, bool) {
	return always(func(raw, _ []byte) []byte {
		out := bytes.Clone(raw)
		if n := len(out); n > 0 {
			out[min(off(n), n-1)] ^= 4
		}
		return out
	})
}

const (
	compressedMagic = "\x31\xb9\x58\x42\x6f\xb6\xa3\x7f"
	dynamicMagic    = "\x1c\x91\x4e\xa5\x19\xba\xb3\xcd"
	fixedMagic      = "\x2f\x7f\x41\xed\x91\xfd\x0f\xcd"
	tooMuch         = 1 << 62
)

// absurd is a file whose header claims lengths that nothing has.
func absurd(raw, _ []byte) ([]byte, bool) {
	out := bytes.Clone(raw)
	switch {
	case bytes.HasPrefix(raw, []byte(fixedMagic)):
		binary.LittleEndian.PutUint64(out[64:], tooMuch)
		binary.LittleEndian.PutUint64(out[72:], tooMuch)
	case bytes.HasPrefix(raw, []byte(dynamicMagic)):
		binary.LittleEndian.PutUint64(out[indexHeader:], tooMuch)
	case len(raw) < 12:
		return nil, false
	default: // a zstd frame that claims a content of 4 EiB, with a checksum that is right
		frame := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, tooMuch)
		frame = append(frame, raw...)
		out = binary.LittleEndian.AppendUint32([]byte(compressedMagic), crc32.ChecksumIEEE(frame))
		out = append(out, frame...)
	}
	return out, true
}

var sizeInLine = regexp.MustCompile(`"size":[0-9]+`)

// absurdLines is a manifest that claims absurd sizes of its files.
func absurdLines(raw, _ []byte) ([]byte, bool) {
	if len(raw) < 12 || !bytes.Contains(raw, []byte(`"backup-type"`)) {
		return nil, false
	}
	return Blob(sizeInLine.ReplaceAll(raw[12:], []byte(`"size":9223372036854775807`)), nil), true
}

// Do damages the file at path. like is another valid file of its kind. possible is false
// if that cannot happen to such a file; then nothing was done. undo makes both files as
// they were.
func (d Damage) Do(path, like string, chunk, index bool) (undo func() error, possible bool, err error) {
	if d.noIndex && index || d.onlyChunk && !chunk {
		return nil, false, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	other, err := os.ReadFile(like)
	if err != nil {
		return nil, false, err
	}
	var now []byte
	if d.bytes != nil {
		if now, possible = d.bytes(raw, other); !possible {
			return nil, false, nil
		}
	}
	undo = func() error {
		_, _ = os.Remove(path), os.Remove(path+".0.bad")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return err
		}
		return os.WriteFile(like, other, 0o644)
	}
	if err := os.Remove(path); err != nil {
		return nil, false, err
	}
	if d.place != nil {
		return undo, true, d.place(path)
	}
	if d.swap {
		if err := os.WriteFile(like, raw, 0o644); err != nil {
			return nil, false, err
		}
	}
	return undo, true, os.WriteFile(path, now, 0o644)
}
