package pxar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// archived is what an encoder has written.
type archived struct{ meta, payload bytes.Buffer }

// must fails the test with what went wrong.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// begin returns an encoder of an archive of either form.
func begin(t testing.TB, split bool, prelude []byte, root *Metadata) (*Encoder, *archived) {
	t.Helper()
	out := new(archived)
	e, err := NewEncoder(&out.meta, root)
	if split {
		out = new(archived)
		e, err = NewSplitEncoder(&out.meta, &out.payload, prelude, root)
	}
	must(t, err)
	return e, out
}

// addFile adds a file that is as it was announced.
func addFile(t testing.TB, e *Encoder, name string, m *Metadata, data string) Link {
	t.Helper()
	s, err := e.AddFile(name, m, int64(len(data)), strings.NewReader(data))
	if err != nil || s.Missing != 0 || s.Cause != nil || s.Longer {
		t.Fatalf("AddFile(%q) = %+v, %v", name, s, err)
	}
	return s.Link
}

// plainDir and plainFile are metadata like that of the builder's nodes.
var (
	plainDir  = &Metadata{Mode: TypeDir | 0o755}
	plainFile = &Metadata{Mode: TypeRegular | 0o644}
)

func TestEncoderWritesTheGoldenArchive(t *testing.T) {
	e, out := begin(t, false, nil, &Metadata{Mode: TypeDir | 0o755, Mtime: Timestamp{Sec: 1e9}})
	a := addFile(t, e, "a", &Metadata{Mode: TypeRegular | 0o640, UID: 1000, GID: 100, Mtime: Timestamp{-1, 5e8}}, "hi\n")
	must(t, e.AddHardlink("b", a), e.Close())
	if !bytes.Equal(out.meta.Bytes(), unhex(t, goldenUnified)) {
		t.Errorf("archive is\n%x, want\n%s", out.meta.Bytes(), goldenUnified)
	}
	const sum = "25b6f5e3dd6f7c55b3256e8c58788c83284c0a185405ca9cae794e1bb4c2e701"
	if got := sha256.Sum256(out.meta.Bytes()); hex.EncodeToString(got[:]) != sum {
		t.Errorf("sum is %x, want %s", got, sum)
	}
}

func TestEncoderWritesTheGoldenEmptyArchives(t *testing.T) {
	want := unhex(t, goldenVoid)
	root := &Metadata{Mode: TypeDir | 0o755, Mtime: Timestamp{0x5fe4d642, 0x1e1c839e}}
	e, out := begin(t, false, nil, root)
	must(t, e.Close())
	if !bytes.Equal(out.meta.Bytes(), want) {
		t.Errorf("unified: %x, want %x", out.meta.Bytes(), want)
	}
	e, out = begin(t, true, nil, root)
	must(t, e.Close())
	want = append(unhex(t, "0da416df756c0f73 1800000000000000 0200000000000000"), want...)
	want[len(want)-16] = 0x50
	if !bytes.Equal(out.meta.Bytes(), want) {
		t.Errorf("split: %x, want %x", out.meta.Bytes(), want)
	}
	if want := unhex(t, "d24e4a19c2684c83 1000000000000000 b5814c988bb7726c 1000000000000000"); !bytes.Equal(out.payload.Bytes(), want) {
		t.Errorf("payload: %x, want %x", out.payload.Bytes(), want)
	}
}

// tableOf returns the goodbye table that ends at end as "name(offset,size)".
func tableOf(t *testing.T, b []byte, end int, names ...string) string {
	t.Helper()
	var out []string
	for pos := end - int(le64(b[end-8:])) + headerSize; pos < end; pos += tableItemSize {
		name := "tail"
		for _, n := range names {
			if hashName([]byte(n)) == le64(b[pos:]) {
				name = n
			}
		}
		out = append(out, fmt.Sprintf("%s(%d,%d)", name, le64(b[pos+8:]), le64(b[pos+16:])))
	}
	return strings.Join(out, " ")
}

// The positions and tables of reference "pxar", section 10.
func TestEncoderWritesTheSample(t *testing.T) {
	for _, split := range []bool{false, true} {
		var prelude []byte
		if split {
			prelude = []byte(`{"exclude-patterns":"*.o\n"}`[:26]) // puts the ENTRY at 66
		}
		e, out := begin(t, split, prelude, plainDir)
		a := addFile(t, e, "a.txt", plainFile, "hello")
		must(
			t, e.AddHardlink("b", a), e.StartDir("d", plainDir), e.AddSymlink("l", &Metadata{Mode: TypeSymlink | 0o777}, "../a.txt"),
			e.AddSpecial("p", &Metadata{Mode: TypeFIFO | 0o644}), e.EndDir(),
		)
		addFile(t, e, "empty", plainFile, "")
		must(t, e.Close())
		b := out.meta.Bytes()
		if meta, payload := e.Size(); meta != int64(len(b)) || payload != int64(out.payload.Len()) {
			t.Errorf("Size = %d, %d, want %d, %d", meta, payload, len(b), out.payload.Len())
		}
		innerEnd, size := 538, 768
		want := "empty(94,94) b(477,48) a.txt(576,99) d(429,335) tail(632,136)"
		if split {
			innerEnd, size = 615, 861
			want = "empty(110,110) b(493,48) a.txt(603,115) d(445,335) tail(725,136)"
		}
		if len(b) != size {
			t.Fatalf("split %v: archive of %d bytes, want %d", split, len(b), size)
		}
		if got := tableOf(t, b, size, "a.txt", "b", "d", "empty"); got != want {
			t.Errorf("split %v: table of the root is %s, want %s", split, got, want)
		}
		if got, want := tableOf(t, b, innerEnd, "l", "p"), "p(74,74) l(173,99) tail(229,88)"; got != want {
			t.Errorf("split %v: table of d is %s, want %s", split, got, want)
		}
		if !split {
			continue
		}
		start, tail := item(itemPayloadStart), item(itemPayloadTail)
		if want := bytes.Join([][]byte{start, item(itemPayload, []byte("hello")), item(itemPayload), tail}, nil); !bytes.Equal(out.payload.Bytes(), want) {
			t.Errorf("payload is %x, want %x", out.payload.Bytes(), want)
		}
		if got, r := mustOpen(t, b); string(got.Prelude()) != string(prelude) {
			t.Errorf("prelude %q in %v", got.Prelude(), r)
		}
	}
}

// object is a node of a random tree.
type object struct {
	name   string
	m      *Metadata
	data   string // content, or target
	dev    Device
	link   *object
	kids   []*object
	stored Link
}

// randomObjects returns the children of a directory, in order; files are what
// hard links can be made to.
func randomObjects(t testing.TB, rng *rand.Rand, depth int, files *[]*object) (kids []*object) {
	var names []string
	for range rng.IntN(10) {
		names = append(names, strings.Repeat(string(rune('a'+rng.IntN(26))), 1+rng.IntN(255))+"\xff"[:rng.IntN(2)])
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if len(name) > maxName {
			continue
		}
		types := []uint32{TypeDir, TypeDir, TypeRegular, TypeRegular, TypeRegular, TypeSymlink, TypeCharDevice, TypeBlockDevice, TypeFIFO, TypeSocket}
		o := &object{name: name, m: randomMetadata(t, rng, types[rng.IntN(len(types))])}
		switch o.m.Type() {
		case TypeDir:
			if depth > 0 {
				o.kids = randomObjects(t, rng, depth-1, files)
			}
		case TypeRegular:
			if len(*files) > 0 && rng.IntN(4) == 0 {
				o.link = (*files)[rng.IntN(len(*files))]
				break
			}
			o.data = strings.Repeat("content\x00", rng.IntN(1<<rng.IntN(18)))
			*files = append(*files, o)
		case TypeSymlink:
			o.data = strings.Repeat("../", rng.IntN(1000)) + "target"
		case TypeCharDevice, TypeBlockDevice:
			o.dev = Device{rng.Uint32(), rng.Uint32()}
		}
		kids = append(kids, o)
	}
	return kids
}

// encodeAll adds objects to the directory that is open.
func encodeAll(t testing.TB, e *Encoder, kids []*object) {
	t.Helper()
	for _, o := range kids {
		switch {
		case o.link != nil:
			must(t, e.AddHardlink(o.name, o.link.stored))
		case o.m.Type() == TypeDir:
			must(t, e.StartDir(o.name, o.m))
			encodeAll(t, e, o.kids)
			must(t, e.EndDir())
		case o.m.Type() == TypeRegular:
			o.stored = addFile(t, e, o.name, o.m, o.data)
		case o.m.Type() == TypeSymlink:
			must(t, e.AddSymlink(o.name, o.m, o.data))
		case o.m.Type() == TypeFIFO, o.m.Type() == TypeSocket:
			must(t, e.AddSpecial(o.name, o.m))
		default:
			must(t, e.AddDevice(o.name, o.m, o.dev))
		}
	}
}

// compareDir checks that a directory holds the objects, and counts them.
func compareDir(t *testing.T, a *Archive, out *archived, d Dir, kids []*object) (n int) {
	t.Helper()
	r := bytes.NewReader(out.meta.Bytes())
	tab, err := a.ReadTable(r, d)
	must(t, err)
	if tab.Err() != nil || tab.Len() != len(kids) {
		t.Fatalf("table of %d children, %v, want %d", tab.Len(), tab.Err(), len(kids))
	}
	for i, o := range kids {
		c, err := tab.Child(r, i)
		must(t, err)
		if found, err := tab.Lookup(r, o.name); err != nil || found != c || c.Name != o.name {
			t.Fatalf("child %d is %q, %v, want %q", i, c.Name, err, o.name)
		}
		e, err := a.ReadEntry(r, c)
		must(t, err)
		want := o
		if o.link != nil {
			want = o.link
		}
		compareEntry(t, a, out, e, want)
		if e.Link != (o.link != nil) || want.m.Type() == TypeRegular && e.NamePos != want.stored.namePos {
			t.Errorf("%.20q: link %v of %d, want one of %d", o.name, e.Link, e.NamePos, want.stored.namePos)
		}
		n++
		if e.Type() == TypeDir {
			n += compareDir(t, a, out, e.Dir, o.kids)
		}
	}
	return n
}

func compareEntry(t *testing.T, a *Archive, out *archived, e *Entry, want *object) {
	t.Helper()
	if !reflect.DeepEqual(e.Attributes(), want.m.Attributes()) {
		t.Errorf("%.20q: attributes %q, want %q", want.name, e.Attributes(), want.m.Attributes())
	}
	got, wantM := e.Metadata, *want.m
	got.acl, got.fcaps, got.xattrs, wantM.acl, wantM.fcaps, wantM.xattrs = nil, nil, nil, nil, nil, nil
	if !reflect.DeepEqual(got, wantM) || e.Device != want.dev {
		t.Errorf("%.20q: %+v, %v, want %+v, %v", want.name, got, e.Device, wantM, want.dev)
	}
	switch e.Type() {
	case TypeSymlink:
		if e.Target != want.data {
			t.Errorf("%.20q: target %q, want %q", want.name, e.Target, want.data)
		}
	case TypeRegular:
		data := out.meta.Bytes()
		if a.Split() {
			data = out.payload.Bytes()
		}
		off, err := e.Payload.Resolve(bytes.NewReader(data), int64(len(data)))
		must(t, err)
		if string(data[off:off+e.Payload.Size]) != want.data {
			t.Errorf("%.20q: other content", want.name)
		}
	}
}

func TestDecoderReadsWhatTheEncoderWrote(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	total := 0
	for i := range 60 {
		var files []*object
		root := &object{m: randomMetadata(t, rng, TypeDir), kids: randomObjects(t, rng, 5, &files)}
		for _, split := range []bool{false, true} {
			e, out := begin(t, split, nil, root.m)
			encodeAll(t, e, root.kids)
			must(t, e.Close())
			a, r := mustOpen(t, out.meta.Bytes())
			got, err := a.ReadRoot(r)
			must(t, err)
			compareEntry(t, a, out, got, root)
			total += compareDir(t, a, out, a.Root(), root.kids)
			if split {
				must(t, CheckPayloadStream(bytes.NewReader(out.payload.Bytes()), int64(out.payload.Len())))
			}
			if got := recode(t, a, out, false); !bytes.Equal(got.meta.Bytes(), out.meta.Bytes()) || !bytes.Equal(got.payload.Bytes(), out.payload.Bytes()) {
				t.Errorf("tree %d, split %v: written again from what was read, it is another archive", i, split)
			}
		}
	}
	if total < 1500 {
		t.Errorf("%d objects, want more", total)
	}
}

// A file system gives as many attributes to a file as fit in one list, and more
// than a mebibyte of values.
func TestFileWithManyAttributesIsRead(t *testing.T) {
	for _, tt := range []struct{ number, size int }{{manyXattrs + 1, 10}, {3000, 10}, {40, 60_000}} {
		m := &Metadata{Mode: TypeRegular | 0o644}
		for i := range tt.number {
			must(t, m.SetAttribute(fmt.Sprintf("user.%d", i), make([]byte, tt.size)))
		}
		e, out := begin(t, false, nil, plainDir)
		addFile(t, e, "f", m, "text")
		must(t, e.Close())
		a, r := mustOpen(t, out.meta.Bytes())
		tab, err := a.ReadTable(r, a.Root())
		must(t, err)
		c, err := tab.Lookup(r, "f")
		must(t, err)
		got, err := a.ReadEntry(r, c)
		must(t, err)
		if n := len(got.Attributes()); n != tt.number {
			t.Errorf("%d attributes of %d bytes: %d were read", tt.number, tt.size, n)
		}
	}
}

// Tables of all sizes are trees.
func TestTablesOfTheEncoderAreSound(t *testing.T) {
	for n := range 200 {
		e, out := begin(t, n%2 == 1, nil, plainDir)
		for i := range n {
			addFile(t, e, fmt.Sprintf("%03d", i), plainFile, "x")
		}
		must(t, e.Close())
		if got, errs := names(t, out.meta.Bytes()); len(got) != n || errs != nil {
			t.Errorf("%d names, %v, want %d", len(got), errs, n)
		}
		a, r := mustOpen(t, out.meta.Bytes())
		if tab, err := a.ReadTable(r, a.Root()); err != nil || tab.Err() != nil {
			t.Errorf("table of %d: %v, %v", n, err, tab.Err())
		}
	}
}

var errSource = errors.New("source is gone")

// Whatever a source does, the archive stays what it was going to be.
func TestSourcesThatAreNotAsAnnounced(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", copySize/16) + "tail" // more than one buffer
	for what, tt := range map[string]struct {
		r    io.Reader
		size int64
		want string // what is stored, zeros behind it left out
		got  Stored
	}{
		"none":              {nil, 5, "", Stored{Missing: 5}},
		"none, for nothing": {nil, 0, "", Stored{}},
		"empty":             {strings.NewReader(""), 3 << 20, "", Stored{Missing: 3 << 20}},
		"shorter":           {strings.NewReader("abc"), 5, "abc", Stored{Missing: 2}},
		"longer":            {strings.NewReader("abc"), 2, "ab", Stored{Longer: true}},
		"not empty":         {strings.NewReader("abc"), 0, "", Stored{Longer: true}},
		"much longer":       {strings.NewReader(big), copySize, big[:copySize], Stored{Longer: true}},
		"much shorter":      {strings.NewReader(big), 5 << 20, big, Stored{Missing: 5<<20 - int64(len(big))}},
		"slow":              {iotest.OneByteReader(strings.NewReader("abc")), 3, "abc", Stored{}},
		"end with the data": {iotest.DataErrReader(strings.NewReader("abc")), 3, "abc", Stored{}},
		"failing":           {iotest.ErrReader(errSource), 7, "", Stored{Missing: 7, Cause: errSource}},
		"failing later":     {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errSource)), 7, "abc", Stored{Missing: 4, Cause: errSource}},
		"failing behind":    {io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errSource)), 3, "abc", Stored{}},
	} {
		for _, split := range []bool{false, true} {
			if s, ok := tt.r.(io.Seeker); ok {
				_, _ = s.Seek(0, io.SeekStart)
			} else if split && tt.r != nil {
				continue // read already
			}
			e, out := begin(t, split, nil, plainDir)
			addFile(t, e, "before", plainFile, big)
			got, err := e.AddFile("file", plainFile, tt.size, tt.r)
			got.Link = Link{}
			if err != nil || got != tt.got {
				t.Errorf("%s: %+v, %v, want %+v", what, got, err, tt.got)
			}
			addFile(t, e, "later", plainFile, "later")
			must(t, e.Close())
			stored := tt.want + strings.Repeat("\x00", int(tt.got.Missing))
			for name, data := range map[string]string{"before": big, "file": stored, "later": "later"} {
				a, r := mustOpen(t, out.meta.Bytes())
				ent, err := get(a, r, name)
				must(t, err)
				compareEntry(t, a, out, ent, &object{name: name, m: plainFile, data: data})
			}
		}
	}
}

func TestSourceThatIsToStopEndsTheArchive(t *testing.T) {
	for _, stop := range []error{context.Canceled, context.DeadlineExceeded} {
		e, _ := begin(t, true, nil, plainDir)
		_, err := e.AddFile("a", plainFile, 1<<60, iotest.ErrReader(fmt.Errorf("read: %w", stop)))
		if !errors.Is(err, stop) || !errors.Is(e.Close(), stop) {
			t.Errorf("AddFile = %v, Close = %v, want %v", err, e.Close(), stop)
		}
	}
}

// None of it is in the way of what comes then, and none of it is stored.
func TestEncoderRefuses(t *testing.T) {
	for _, split := range []bool{false, true} {
		e, out := begin(t, split, nil, plainDir)
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrEntry) {
				t.Errorf("%s: %v, want ErrEntry", what, err)
			}
		}
		add := func(name string, m *Metadata, size int64) error {
			_, err := e.AddFile(name, m, size, nil)
			return err
		}
		link := &Metadata{Mode: TypeSymlink | 0o777}
		for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00b", strings.Repeat("n", 256)} {
			refused("file "+bad, add(bad, plainFile, 0))
			refused("directory "+bad, e.StartDir(bad, plainDir))
			refused("link "+bad, e.AddSymlink(bad, link, "x"))
		}
		refused("target", e.AddSymlink("a", link, ""))
		refused("NUL in target", e.AddSymlink("a", link, "a\x00b"))
		refused("long target", e.AddSymlink("a", link, strings.Repeat("x", 4097)))
		refused("negative size", add("a", plainFile, -1))
		refused("huge size", add("a", plainFile, maxFile+1))
		refused("directory as file", add("a", plainDir, 0))
		refused("file as directory", e.StartDir("a", plainFile))
		refused("file as link", e.AddSymlink("a", plainFile, "x"))
		refused("file as device", e.AddDevice("a", plainFile, Device{}))
		refused("file as fifo", e.AddSpecial("a", plainFile))
		refused("mode without type", add("a", &Metadata{Mode: 0o644}, 0))
		refused("mode above 16 bits", add("a", &Metadata{Mode: 1<<16 | TypeRegular}, 0))
		refused("nanoseconds", add("a", &Metadata{Mode: TypeRegular, Mtime: Timestamp{0, 1e9}}, 0))
		refused("hard link to nothing", e.AddHardlink("a", Link{}))
		refused("hard link forwards", e.AddHardlink("a", Link{1 << 40, "x"}))
		refused("hard link to a long path", e.AddHardlink("a", Link{56, strings.Repeat("x", 4097)}))
		refused("end of the root", e.EndDir())
		first := addFile(t, e, "m", plainFile, "x")
		refused("same name", add("m", plainFile, 0))
		refused("same name as directory", e.StartDir("m", plainDir))
		refused("same name as link", e.AddHardlink("m", first))
		refused("smaller name", add("a", plainFile, 0))
		must(t, e.StartDir("n", plainDir))
		refused("exclude list below the root", func() error { must(t, add("a", plainFile, 0)); return add(excludeFile, plainFile, 0) }())
		refused("open directory", e.Close())
		must(t, e.EndDir(), add(excludeFile, plainFile, 0))
		refused("behind the exclude list", add("z", plainFile, 0))
		must(t, e.Close())
		if got, errs := names(t, out.meta.Bytes()); !slices.Equal(got, []string{"m", "n", excludeFile}) || errs != nil {
			t.Errorf("names %q, %v", got, errs)
		}
		for what, err := range map[string]error{
			"AddFile": add("zz", plainFile, 0), "StartDir": e.StartDir("zz", plainDir), "EndDir": e.EndDir(), "Close": e.Close(),
			"AddHardlink": e.AddHardlink("zz", first), "AddSymlink": e.AddSymlink("zz", link, "x"),
		} {
			if err == nil {
				t.Errorf("%s behind the end gave no error", what)
			}
		}
	}
}

// A file of the source that is called like the list of patterns is in order,
// and then there can be no list.
func TestExcludeListIsThereOnce(t *testing.T) {
	e, out := begin(t, false, nil, plainDir)
	addFile(t, e, excludeFile, plainFile, "")
	addFile(t, e, "a", plainFile, "")
	if _, err := e.AddFile(excludeFile, plainFile, 0, nil); !errors.Is(err, ErrEntry) {
		t.Errorf("second list: %v, want ErrEntry", err)
	}
	must(t, e.Close())
	if got, errs := names(t, out.meta.Bytes()); len(got) != 2 || errs != nil {
		t.Errorf("names %q, %v", got, errs)
	}
}

func TestEncoderKeepsTheLimitsOfTheDecoder(t *testing.T) {
	if _, err := NewSplitEncoder(io.Discard, io.Discard, make([]byte, maxPrelude+1), plainDir); !errors.Is(err, ErrEntry) {
		t.Errorf("long prelude: %v, want ErrEntry", err)
	}
	if _, err := NewEncoder(io.Discard, plainFile); !errors.Is(err, ErrEntry) {
		t.Errorf("file as root: %v, want ErrEntry", err)
	}
	for _, name := range []string{"d", strings.Repeat("n", 255)} {
		e, out := begin(t, false, nil, plainDir)
		depth := 0
		err := e.StartDir(name, plainDir)
		for ; err == nil; err = e.StartDir(name, plainDir) {
			depth++
		}
		if !errors.Is(err, ErrEntry) || depth < 200 {
			t.Fatalf("depth %d: %v", depth, err)
		}
		addFile(t, e, "f", plainFile, "deep")
		for range depth {
			must(t, e.EndDir())
		}
		must(t, e.Close())
		if got := mustGet(t, out.meta.Bytes(), strings.Repeat(name+"/", depth)+"f"); got.Payload.Size != 4 {
			t.Errorf("deepest file: %+v", got)
		}
	}
}

// limited fails when more than n bytes are written.
type limited struct{ n int }

func (w *limited) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errSource
	}
	return len(p), nil
}

func TestEncoderReportsTheWritersError(t *testing.T) {
	data := strings.Repeat("x", 200_000)
	for _, n := range []int{0, 10, 70_000, 399_000, 400_300} {
		run := func(e *Encoder, err error) error {
			for _, name := range []string{"a", "b"} {
				if err == nil {
					_, err = e.AddFile(name, plainFile, int64(len(data)), strings.NewReader(data))
				}
			}
			if err == nil {
				err = e.Close()
			}
			if e != nil && !errors.Is(e.Close(), errSource) {
				t.Errorf("room for %d: Close after an error = %v", n, e.Close())
			}
			return err
		}
		if err := run(NewEncoder(&limited{n}, plainDir)); !errors.Is(err, errSource) {
			t.Errorf("room for %d: %v, want the writer's error", n, err)
		}
		if n > 400_000 {
			n = 400_030 // without the tail marker
		}
		if err := run(NewSplitEncoder(io.Discard, &limited{n}, nil, plainDir)); !errors.Is(err, errSource) {
			t.Errorf("room for %d of payload: %v, want the writer's error", n, err)
		}
		if err := run(NewSplitEncoder(&limited{n / 2000}, io.Discard, nil, plainDir)); !errors.Is(err, errSource) {
			t.Errorf("room for %d of metadata: %v, want the writer's error", n/2000, err)
		}
	}
}

func TestZeroEncoderFails(t *testing.T) {
	e := new(Encoder)
	_, err := e.AddFile("a", plainFile, 0, nil)
	for _, err := range []error{err, e.StartDir("a", plainDir), e.EndDir(), e.Close(), e.AddHardlink("a", Link{1, "x"})} {
		if err == nil {
			t.Error("no error")
		}
	}
}

// recode writes an archive again from what is read of it, attributes as Linux
// shows them. With refs, content stays where it is in the payload stream.
func recode(t testing.TB, a *Archive, in *archived, refs bool) *archived {
	t.Helper()
	r := bytes.NewReader(in.meta.Bytes())
	root, err := a.ReadRoot(r)
	must(t, err)
	e, out := begin(t, a.Split(), a.Prelude(), copyOf(t, &root.Metadata))
	c := &recoder{t: t, a: a, in: in, e: e, refs: refs, links: make(map[int64]Link)}
	c.dir(a.Root())
	must(t, e.Close())
	return out
}

type recoder struct {
	t     testing.TB
	a     *Archive
	in    *archived
	e     *Encoder
	refs  bool
	links map[int64]Link // by position in the old archive
}

func (c *recoder) dir(d Dir) {
	r := bytes.NewReader(c.in.meta.Bytes())
	tab, err := c.a.ReadTable(r, d)
	must(c.t, err, tab.Err())
	for i := range tab.Len() {
		child, err := tab.Child(r, i)
		must(c.t, err)
		ent, err := c.a.ReadEntry(r, child)
		must(c.t, err)
		m := copyOf(c.t, &ent.Metadata)
		switch {
		case ent.Link:
			err = c.e.AddHardlink(child.Name, c.links[ent.NamePos])
		case ent.Type() == TypeDir:
			must(c.t, c.e.StartDir(child.Name, m))
			c.dir(ent.Dir)
			err = c.e.EndDir()
		case ent.Type() == TypeRegular:
			c.links[ent.NamePos], err = c.file(child, ent, m)
		case ent.Type() == TypeSymlink:
			err = c.e.AddSymlink(child.Name, m, ent.Target)
		case ent.Type() == TypeFIFO, ent.Type() == TypeSocket:
			err = c.e.AddSpecial(child.Name, m)
		default:
			err = c.e.AddDevice(child.Name, m, ent.Device)
		}
		must(c.t, err)
	}
}

func (c *recoder) file(child Child, ent *Entry, m *Metadata) (Link, error) {
	data := c.in.meta.Bytes()
	if c.a.Split() {
		data = c.in.payload.Bytes()
	}
	off, err := ent.Payload.Resolve(bytes.NewReader(data), int64(len(data)))
	must(c.t, err)
	size := ent.Payload.Size
	if c.refs {
		// A reused file counts its metadata only.
		elsewhere := size
		if child.end == child.bound {
			elsewhere = 0
		}
		return c.e.addRef(child.Name, m, ent.Payload.Off, size, elsewhere)
	}
	s, err := c.e.AddFile(child.Name, m, size, bytes.NewReader(data[off:off+size]))
	return s.Link, err
}

func BenchmarkEncoder(b *testing.B) {
	const files = 1000
	m := copyOf(b, &Metadata{Mode: TypeRegular | 0o644})
	must(b, m.SetAttribute("user.a", []byte("value")))
	for _, bm := range []struct {
		what string
		size int
	}{{"empty", 0}, {"4KiB", 4 << 10}, {"1MiB", 1 << 20}} {
		data := make([]byte, bm.size)
		for _, form := range []string{"unified", "split"} {
			b.Run(form+"/"+bm.what, func(b *testing.B) {
				b.SetBytes(int64(files * bm.size))
				b.ReportAllocs()
				r := bytes.NewReader(nil)
				for b.Loop() {
					e, err := NewEncoder(io.Discard, plainDir)
					if form == "split" {
						e, err = NewSplitEncoder(io.Discard, io.Discard, nil, plainDir)
					}
					must(b, err)
					for i := range files {
						r.Reset(data)
						if _, err := e.AddFile(fmt.Sprintf("%08d", i), m, int64(bm.size), r); err != nil {
							b.Fatal(err)
						}
					}
					must(b, e.Close())
				}
			})
		}
	}
}
