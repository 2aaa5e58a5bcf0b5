package catalog

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// node is an entry of a tree that a test encodes.
type node struct {
	Entry
	children []node
}

func dir(name string, children ...node) node { return node{Entry{Name: name, Kind: Dir}, children} }

func file(name string, size uint64, mtime int64) node {
	return node{Entry: Entry{name, File, size, mtime}}
}

func other(name string, kind Kind) node { return node{Entry: Entry{Name: name, Kind: kind}} }

// encode writes a catalog as the official client does: children first, blocks
// end to end.
func encode(archives ...node) []byte {
	out, root := appendBlock(magic[:len(magic):len(magic)], archives)
	return binary.LittleEndian.AppendUint64(out, uint64(root))
}

// appendBlock appends the blocks of the directories below and then that of a
// directory with the entries; start is where the latter begins.
func appendBlock(out []byte, entries []node) (_ []byte, start int64) {
	starts := make([]int64, len(entries))
	for i, e := range entries {
		if e.Kind == Dir {
			out, starts[i] = appendBlock(out, e.children)
		}
	}
	start = int64(len(out))
	table := appendUnsigned(nil, uint64(len(entries)))
	for i, e := range entries {
		table = appendUnsigned(append(table, byte(e.Kind)), uint64(len(e.Name)))
		table = append(table, e.Name...)
		switch e.Kind {
		case Dir:
			table = appendUnsigned(table, uint64(start-starts[i]))
		case File:
			table = appendSigned(appendUnsigned(table, e.Size), e.Mtime)
		default: // nothing after the name
		}
	}
	return append(appendUnsigned(out, uint64(len(table))), table...), start
}

func appendUnsigned(out []byte, v uint64) []byte { return binary.AppendUvarint(out, v) }

func appendSigned(out []byte, v int64) []byte {
	if v >= 0 {
		return appendUnsigned(out, uint64(v))
	}
	for m := -uint64(v); m > 0; m >>= 7 {
		out = append(out, byte(m)|more)
	}
	return append(out, 0)
}

// frame puts blocks between the magic number and the root pointer.
func frame(root uint64, blocks []byte) []byte {
	out := append(magic[:len(magic):len(magic)], blocks...)
	return binary.LittleEndian.AppendUint64(out, root)
}
