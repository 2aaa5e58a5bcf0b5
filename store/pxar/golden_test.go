package pxar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/dchest/siphash"
)

// goldenUnified is the archive of reference "pxar", section 11.
const goldenUnified = `
	efac88e5746495d5 3800000000000000
	ed41000000000000 0000000000000000 00000000 00000000 00ca9a3b00000000 00000000 00000000
	b317390621117016 1200000000000000 6100
	efac88e5746495d5 3800000000000000
	a081000000000000 0000000000000000 e8030000 64000000 ffffffffffffffff 0065cd1d 00000000
	251a7c0b1b7a1428 1300000000000000 68690a
	b317390621117016 1200000000000000 6200
	7572bd22849c2651 1a00000000000000 5d00000000000000 6100
	1d73d542a64fec2f 5800000000000000
	33c7e812f5a31d4d 2c00000000000000 2c00000000000000
	cf7b2c7c06e9260c 8900000000000000 5d00000000000000
	55153e755bed5eef c100000000000000 5800000000000000`

// goldenVoid is an empty directory as the official client wrote it.
const goldenVoid = `
	efac88e5746495d53800000000000000
	ed410000000000000000000000000000000000000000000042d6e45f000000009e831c1e00000000
	1d73d542a64fec2f2800000000000000 55153e755bed5eef 3800000000000000 2800000000000000`

func TestItemTypesAreHashesOfTheirNames(t *testing.T) {
	for name, want := range map[string]uint64{
		"VERSION": itemVersion, "PRELUDE": itemPrelude, "ENTRY_V2": itemEntry, "ENTRY": itemEntryV1,
		"FILENAME": itemFilename, "XATTR": itemXattr, "FCAPS": itemFCaps, "QUOTA_PROJID": itemQuotaProject,
		"ACL_USER": itemACLUser, "ACL_GROUP": itemACLGroup, "ACL_GROUP_OBJ": itemACLGroupObj,
		"ACL_DEFAULT": itemACLDefault, "ACL_DEFAULT_USER": itemACLDefaultUser, "ACL_DEFAULT_GROUP": itemACLDefaultGroup,
		"SYMLINK": itemSymlink, "DEVICE": itemDevice, "HARDLINK": itemHardlink, "GOODBYE": itemGoodbye,
		"PXAR_PAYLOAD": itemPayload, "PXAR_PAYLOAD_REF": itemPayloadRef,
		"PXAR_PAYLOAD_START_MARKER": itemPayloadStart, "PXAR_PAYLOAD_TAIL_MARKER": itemPayloadTail,
		"PXAR_GOODBYE_TAIL_MARKER": tailHash,
	} {
		if got := siphash.Hash(hashKey0, hashKey1, []byte("__PROXMOX_FORMAT_"+name+"__")); got != want {
			t.Errorf("type of %s is %#016x, want %#016x", name, want, got)
		}
	}
}

func TestHashOfNames(t *testing.T) {
	for name, want := range map[string]uint64{
		"a": 0x0c26e9067c2c7bcf, "etc": 0xd0c229edbd411e9a, "hello.txt": 0x9b1ee0b84c66190c,
	} {
		if got := hashName([]byte(name)); got != want {
			t.Errorf("hash of %q = %#016x, want %#016x", name, got, want)
		}
	}
}

func TestGoldenUnifiedArchive(t *testing.T) {
	b := unhex(t, goldenUnified)
	const sum = "25b6f5e3dd6f7c55b3256e8c58788c83284c0a185405ca9cae794e1bb4c2e701"
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
		t.Fatalf("golden archive of %d bytes has sum %x, want %s", len(b), got, sum)
	}
	a, r := mustOpen(t, b)
	root, err := a.ReadRoot(r)
	if err != nil {
		t.Fatal(err)
	}
	wantRoot := &Entry{Metadata: Metadata{Mode: 0o40755, Mtime: Timestamp{Sec: 1e9}}, Dir: a.Root()}
	if !reflect.DeepEqual(root, wantRoot) {
		t.Errorf("root = %+v, want %+v", root, wantRoot)
	}
	want := Entry{
		Metadata: Metadata{Mode: 0o100640, UID: 1000, GID: 100, Mtime: Timestamp{Sec: -1, Nsec: 5e8}},
		NamePos:  56, Payload: Payload{Off: 146, Size: 3},
	}
	for _, name := range []string{"a", "b"} {
		got, err := get(a, r, name)
		want.Link = name == "b"
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s = %+v, %v, want %+v", name, got, err, want)
		}
	}
	if got, _ := names(t, b); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names %q, want a and b", got)
	}
	links, err := a.CountLinks(context.Background(), r)
	if err != nil || !maps.Equal(links, map[int64]int{56: 1}) {
		t.Errorf("links %v, %v, want one to 56", links, err)
	}
}

func TestGoldenEmptyArchives(t *testing.T) {
	unified := unhex(t, goldenVoid)
	// The same behind a version item; the tail then points to byte 0.
	split := append(unhex(t, "0da416df756c0f73 1800000000000000 0200000000000000"), unified...)
	split[len(split)-16] = 0x50
	for _, b := range [][]byte{unified, split} {
		a, r := mustOpen(t, b)
		e, err := a.ReadRoot(r)
		want := Timestamp{Sec: 0x5fe4d642, Nsec: 0x1e1c839e}
		if err != nil || e.Mode != 0o40755 || e.Mtime != want {
			t.Errorf("root = %+v, %v, want mode 040755, time %v", e, err, want)
		}
		if a.Split() != (len(b) == 120) || a.Size() != int64(len(b)) || a.Prelude() != nil {
			t.Errorf("archive %+v of %d bytes", a, len(b))
		}
		if tab, err := a.ReadTable(r, a.Root()); err != nil || tab.Len() != 0 || tab.Err() != nil {
			t.Errorf("table %+v, %v, want an empty one", tab, err)
		}
	}
	payload := unhex(t, "d24e4a19c2684c83 1000000000000000 b5814c988bb7726c 1000000000000000")
	if err := CheckPayloadStream(bytes.NewReader(payload), 32); err != nil {
		t.Errorf("CheckPayloadStream: %v", err)
	}
}

// sample is the tree of reference "pxar", section 10.
func sample() *node {
	a := file("a.txt", "hello")
	return dir("", a, linkTo("b", a), dir("d", symlink("l", "../a.txt"), special("p", TypeFIFO)), file("empty", ""))
}

func TestSamplePositions(t *testing.T) {
	for _, split := range []bool{false, true} {
		e, root := encoder{split: split}, sample()
		want := map[string]int64{"a.txt": 56, "b": 56, "d": 203, "empty": 538, "size": 768}
		if split {
			e.prelude = `{"exclude-patterns":"*.o\n"}`[:26] // 26 bytes put the ENTRY at 66
			want = map[string]int64{"a.txt": 122, "b": 122, "d": 280, "empty": 615, "size": 861}
		}
		b := e.archive(root)
		a, r := mustOpen(t, b)
		if string(a.Prelude()) != e.prelude || a.Split() != split {
			t.Errorf("split %v with prelude %q, want %v, %q", a.Split(), a.Prelude(), split, e.prelude)
		}
		if a.Size() != want["size"] {
			t.Errorf("split %v: size %d, want %d", split, a.Size(), want["size"])
		}
		for _, name := range []string{"a.txt", "b", "d", "empty"} {
			ent, err := get(a, r, name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if ent.NamePos != want[name] {
				t.Errorf("split %v: %s at %d, want %d", split, name, ent.NamePos, want[name])
			}
		}
		if l := mustGet(t, b, "d/l"); l.Target != "../a.txt" {
			t.Errorf("target %q, want ../a.txt", l.Target)
		}
		if p := mustGet(t, b, "d/p"); p.Type() != TypeFIFO {
			t.Errorf("mode %#o, want a fifo", p.Mode)
		}
		links, err := a.CountLinks(context.Background(), r)
		if err != nil || !maps.Equal(links, map[int64]int{want["a.txt"]: 1}) {
			t.Errorf("links %v, %v, want one", links, err)
		}
	}
}

func TestTreeOrder(t *testing.T) {
	for n, want := range map[int][]int{0: nil, 1: {0}, 4: {2, 1, 3, 0}, 5: {3, 1, 4, 0, 2}} {
		got := slices.Repeat([]int{-1}, n)
		k := 0
		for i := range inOrder(n) {
			got[i] = k
			k++
		}
		if !slices.Equal(got, want) {
			t.Errorf("sorted items of %d slots: %v, want %v", n, got, want)
		}
	}
	for n := range 70 {
		slots := make([]slot, n)
		for i := range slots {
			slots[i].hash = uint64(i)
		}
		k := uint64(0)
		slots = treeOrder(slots)
		for i := range inOrder(n) {
			if slots[i].hash != k {
				t.Fatalf("%d slots: slot %d comes as %d, want %d", n, i, k, slots[i].hash)
			}
			k++
		}
		if k != uint64(n) {
			t.Errorf("%d slots: walked %d", n, k)
		}
	}
}
