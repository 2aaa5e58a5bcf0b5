package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// The archive of reference "pxar", section 11: what this package writes is
// what the official client writes.
func TestArchiveIsTheReferenceOne(t *testing.T) {
	a := &Node{Name: "a", Mode: 0o100640, UID: 1000, GID: 100, Sec: -1, Nsec: 5e8, Data: "hi\n"}
	root := Dir("", a, Link("b", a))
	root.Sec = 1e9
	b, _ := Archive(root, false)
	const want = "25b6f5e3dd6f7c55b3256e8c58788c83284c0a185405ca9cae794e1bb4c2e701"
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != want {
		t.Errorf("archive of %d bytes has sum %x, want %s", len(b), got, want)
	}
}

// An archive that is taken apart and put together again is the same.
func TestForgeriesBeginWithTheTruth(t *testing.T) {
	a := File("a", "hi\n")
	for _, split := range []bool{false, true} {
		archive, payload := Archive(Dir("", a, Dir("d", Symlink("s", "a"), Dir("e")), Link("l", a), Device("z").With("user.x", "y")), split)
		for _, stream := range [][]byte{archive, payload} {
			if got := Forge(stream).Bytes(); !bytes.Equal(got, stream) {
				t.Errorf("split %v: %d bytes became %d other ones", split, len(stream), len(got))
			}
		}
	}
}
