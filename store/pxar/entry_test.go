package pxar

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestOldStat(t *testing.T) {
	n := &node{name: "x", mode: TypeRegular | 0o4711, uid: 1, gid: 2, sec: 1234567890, nsec: 987654321, v1: true, data: "d"}
	e := mustGet(t, (&encoder{}).archive(dir("", n)), "x")
	if e.Mode != 0o104711 || e.UID != 1 || e.GID != 2 || e.Mtime != (Timestamp{1234567890, 987654321}) {
		t.Errorf("entry %+v", e)
	}
}

func TestKinds(t *testing.T) {
	for _, split := range []bool{false, true} {
		e := &encoder{split: split}
		b := e.archive(dir("", special("blk", TypeBlockDevice), special("chr", TypeCharDevice), dir("dir"), special("fifo", TypeFIFO),
			symlink("link", strings.Repeat("x", 4096)), file("reg", "content"), special("sock", TypeSocket)))
		for name, typ := range map[string]uint32{
			"blk": TypeBlockDevice, "chr": TypeCharDevice, "dir": TypeDir, "fifo": TypeFIFO,
			"link": TypeSymlink, "reg": TypeRegular, "sock": TypeSocket,
		} {
			if got := mustGet(t, b, name); got.Type() != typ {
				t.Errorf("%s has mode %#o, want type %#o", name, got.Mode, typ)
			}
		}
		if d := mustGet(t, b, "chr").Device; d != (Device{8, 1}) {
			t.Errorf("device %v, want 8, 1", d)
		}
		data := b
		if split {
			data = e.payload
		}
		p := mustGet(t, b, "reg").Payload
		off, err := p.Resolve(bytes.NewReader(data), int64(len(data)))
		if err != nil || p.Ref != split || string(data[off:off+p.Size]) != "content" {
			t.Errorf("payload %+v at %d, %v", p, off, err)
		}
	}
}

// stat is an ENTRY with that mode.
func stat(mode uint64) []byte { return (&node{mode: mode}).stat() }

func TestMalformedEntries(t *testing.T) {
	reg, pay := stat(0o100644), item(itemPayload)
	many := func(n int, it []byte) []byte { return bytes.Repeat(it, n) }
	acl := item(itemACLUser, nums(1, 1))
	for name, items := range map[string][][]byte{
		"nothing":                          {},
		"no entry":                         {pay},
		"cut header":                       {reg[:15]},
		"size below header":                {sized(15, reg), pay},
		"size behind the end":              {sized(1000, reg), pay},
		"huge size":                        {sized(math.MaxUint64, reg), pay},
		"stat too long":                    {item(itemEntry, make([]byte, 48)), pay},
		"stat too short":                   {item(itemEntry, make([]byte, 32)), pay},
		"old stat too long":                {item(itemEntryV1, nums(0o100644, 0, 0, 0, 0)), pay},
		"mode above 16 bits":               {stat(0o100644 | 1<<32), pay},
		"mode without type":                {stat(0o644), pay},
		"nanoseconds":                      {(&node{mode: 0o100644, nsec: 1e9}).stat(), pay},
		"unknown item":                     {reg, item(1234), pay},
		"second entry":                     {reg, reg, pay},
		"hard link after entry":            {reg, item(itemHardlink, nums(30), []byte("a\x00"))},
		"no terminal":                      {reg},
		"symlink without target":           {stat(0o120777)},
		"device without number":            {stat(0o020600)},
		"file with target":                 {reg, item(itemSymlink, []byte("t\x00"))},
		"symlink with content":             {stat(0o120777), pay},
		"fifo with device":                 {stat(0o010600), item(itemDevice, nums(1, 1))},
		"device with content":              {stat(0o060600), pay},
		"directory with content":           {stat(0o40755), pay},
		"directory without table":          {stat(0o40755)},
		"file with children":               {reg, item(itemFilename, []byte("x\x00"))},
		"reference in unified":             {reg, item(itemPayloadRef, nums(16, 0))},
		"device too short":                 {stat(0o020600), item(itemDevice, nums(1))},
		"device number above 32 bits":      {stat(0o020600), item(itemDevice, nums(1<<32, 1))},
		"empty target":                     {stat(0o120777), item(itemSymlink, []byte("\x00"))},
		"target without NUL":               {stat(0o120777), item(itemSymlink, []byte("abc"))},
		"NUL in target":                    {stat(0o120777), item(itemSymlink, []byte("a\x00c\x00"))},
		"target too long":                  {stat(0o120777), item(itemSymlink, append(bytes.Repeat([]byte("x"), 4097), 0))},
		"target of no bytes":               {stat(0o120777), item(itemSymlink)},
		"payload behind the end":           {reg, sized(1<<20, pay)},
		"xattr without NUL":                {reg, item(itemXattr, []byte("user.a")), pay},
		"xattr too long":                   {reg, item(itemXattr, []byte("user.a\x00"), make([]byte, 65792)), pay},
		"too many xattrs":                  {reg, many(maxXattrs+1, xattrItem("user.a", "")), pay},
		"too many bytes of xattrs":         {reg, many(65, xattrItem("user.a", strings.Repeat("x", 65000))), pay},
		"too many ACL entries":             {reg, many(1025, acl), pay},
		"ACL entry too long":               {reg, item(itemACLUser, nums(1, 1, 1)), pay},
		"ACL entry too short":              {reg, item(itemACLDefaultGroup, nums(1)), pay},
		"owning group too long":            {reg, item(itemACLGroupObj, nums(1, 1)), pay},
		"owning group twice":               {reg, many(2, item(itemACLGroupObj, nums(1))), pay},
		"default ACL too short":            {reg, item(itemACLDefault, nums(1, 1, 1)), pay},
		"default ACL twice":                {reg, many(2, item(itemACLDefault, nums(1, 1, 1, 1))), pay},
		"capabilities twice":               {reg, many(2, item(itemFCaps)), pay},
		"capabilities too long":            {reg, item(itemFCaps, make([]byte, 65792)), pay},
		"project twice":                    {reg, many(2, item(itemQuotaProject, nums(1))), pay},
		"project too short":                {reg, item(itemQuotaProject, make([]byte, 4)), pay},
		"hard link too short":              {item(itemHardlink, nums(93))},
		"hard link too long":               {item(itemHardlink, nums(93), make([]byte, 4098))},
		"hard link to itself":              {item(itemHardlink, nums(0), []byte("\x00"))},
		"hard link before the archive":     {item(itemHardlink, nums(1<<40), []byte("\x00"))},
		"hard link forwards":               {item(itemHardlink, nums(math.MaxUint64-20), []byte("\x00"))},
		"hard link into the root's entry":  {item(itemHardlink, nums(149), []byte("\x00"))},
		"hard link beside its target":      {item(itemHardlink, nums(92), []byte("\x00"))},
		"directory ending without a table": {stat(0o40755), item(itemGoodbye, make([]byte, 24))},
	} {
		t.Run(name, func(t *testing.T) {
			// "before" fills 56 to 149 or so: positions for hard links.
			b := (&encoder{}).archive(dir("", file("a", "hi\n"), raw("x", items...), file("y", "")))
			a, r := mustOpen(t, b)
			e, err := get(a, r, "x")
			if err == nil && e.Type() == TypeDir {
				_, err = a.ReadTable(r, e.Dir)
			}
			wantCorrupt(t, "entry", err)
			if e, err := get(a, r, "y"); err != nil || e.Type() != TypeRegular {
				t.Errorf("what follows: %+v, %v", e, err)
			}
		})
	}
}

func TestMalformedNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b", strings.Repeat("n", 256), strings.Repeat("n", 5000)} {
		b := (&encoder{}).archive(dir("", file("before", ""), file(name, ""), file("later", "")))
		got, errs := names(t, b)
		if !slices.Equal(got, []string{"before", "later"}) || len(errs) != 1 {
			t.Errorf("with %.20q: names %q, errors %v", name, got, errs)
			continue
		}
		wantCorrupt(t, name, errs[0])
	}
	long := strings.Repeat("n", 255)
	if got, _ := names(t, (&encoder{}).archive(dir("", file(long, "")))); !slices.Equal(got, []string{long}) {
		t.Errorf("names %q, want one of 255 bytes", got)
	}
}

func TestHardLinkTargets(t *testing.T) {
	for kind, target := range map[string]*node{
		"directory": dir("t"), "fifo": special("t", TypeFIFO), "symlink": symlink("t", "x"), "device": special("t", TypeBlockDevice),
	} {
		b := (&encoder{}).archive(dir("", target, linkTo("x", target)))
		a, r := mustOpen(t, b)
		_, err := get(a, r, "x")
		wantCorrupt(t, "hard link to a "+kind, err)
	}
	a := file("a", "x")
	l := linkTo("b", a)
	b := (&encoder{}).archive(dir("", a, l, linkTo("c", l)))
	ar, r := mustOpen(t, b)
	_, err := get(ar, r, "c")
	wantCorrupt(t, "hard link to a hard link", err)
}

func TestTableEndOfFilesInSplitArchivesIsIgnored(t *testing.T) {
	for _, split := range []bool{false, true} {
		e := encoder{split: split, table: func(_ *node, _ int64, s []slot) []slot {
			for i := range s {
				s[i].size = 1 << 62
			}
			return s
		}}
		a, r := mustOpen(t, e.archive(dir("", file("f", "x"))))
		_, err := get(a, r, "f")
		if split && err != nil {
			t.Errorf("split: %v", err)
		}
		if !split {
			wantCorrupt(t, "unified", err)
		}
	}
}

func TestPayloadReferences(t *testing.T) {
	stream := append(item(itemPayloadStart), item(itemPayload, []byte("hello"))...)
	size := int64(len(stream))
	for _, p := range []Payload{
		{16, 4, true},
		{16, 6, true},
		{0, 0, true},
		{17, 5, true},
		{size - 3, 0, true},
		{size, 0, true},
		{1 << 40, 1, true},
		{-1, 0, true},
		{math.MaxInt64, math.MaxInt64, true},
	} {
		_, err := p.Resolve(bytes.NewReader(stream), size)
		wantCorrupt(t, "payload", err)
	}
	if off, err := (Payload{16, 5, true}).Resolve(bytes.NewReader(stream), size); off != 32 || err != nil {
		t.Errorf("payload at %d, %v, want 32", off, err)
	}
	if _, err := (Payload{16, 5, true}).Resolve(bytes.NewReader(stream), size-1); err == nil {
		t.Error("payload behind the end of the stream")
	}
	for _, s := range [][]byte{nil, stream[:15], stream[16:], item(itemPayloadStart, make([]byte, 8)), item(itemPayloadTail)} {
		wantCorrupt(t, "payload stream", CheckPayloadStream(bytes.NewReader(s), int64(len(s))))
	}
	for _, ref := range [][]byte{
		item(itemPayloadRef, nums(1<<63, 0)), item(itemPayloadRef, nums(16, math.MaxUint64)),
		item(itemPayloadRef, nums(math.MaxInt64-10, 1)), item(itemPayloadRef, nums(16)),
	} {
		a, r := mustOpen(t, (&encoder{split: true}).archive(dir("", raw("x", stat(0o100644), ref))))
		_, err := get(a, r, "x")
		wantCorrupt(t, "reference", err)
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	broken := errors.New("chunk is missing")
	b := (&encoder{}).archive(sample())
	a, whole := mustOpen(t, b)
	tab, err := a.ReadTable(whole, a.Root())
	if err != nil {
		t.Fatal(err)
	}
	// Read ahead may fail; what is needed may not.
	if _, err := tab.Child(brokenAt{whole, 56 + 22, broken}, 0); err != nil {
		t.Errorf("name in front of a missing chunk: %v", err)
	}
	if _, err := tab.Child(brokenAt{whole, 56 + 21, broken}, 0); !errors.Is(err, broken) {
		t.Errorf("name in a missing chunk: %v", err)
	}
	if _, err := Open(brokenAt{whole, 300, broken}, a.Size()); !errors.Is(err, broken) {
		t.Errorf("Open: %v", err)
	}
	if _, err := tab.Lookup(brokenAt{whole, 0, broken}, "a.txt"); !errors.Is(err, broken) {
		t.Errorf("Lookup: %v", err)
	}
	_, err = Open(bytes.NewReader(b[:200]), a.Size())
	wantCorrupt(t, "short stream", err)
}
