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
// directory with the entries, whose names may be none; start is where the
// latter begins.
func appendBlock(out []byte, entries []node) (_ []byte, start int64) {
	records := make([]record, len(entries))
	for i, e := range entries {
		records[i].Entry = e.Entry
		if e.Kind == Dir {
			out, records[i].start = appendBlock(out, e.children)
		}
	}
	start = int64(len(out))
	table := appendTable(nil, records, start)
	return append(appendUnsigned(out, uint64(len(table))), table...), start
}

// frame puts blocks between the magic number and the root pointer.
func frame(root uint64, blocks []byte) []byte {
	out := append(magic[:len(magic):len(magic)], blocks...)
	return binary.LittleEndian.AppendUint64(out, root)
}
