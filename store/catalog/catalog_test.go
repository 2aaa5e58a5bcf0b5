package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const rootArchive = "root.pxar.didx"

// list walks the archive and returns a line per entry.
func list(stream []byte, archive string) ([]string, error) {
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		return nil, err
	}
	var lines []string
	err = c.Walk(context.Background(), r, archive, func(path []string, e Entry) error {
		if path[len(path)-1] != e.Name {
			return fmt.Errorf("path %q does not end with %q", path, e.Name)
		}
		line := fmt.Sprintf("%s %s", e.Kind, strings.Join(path, "/"))
		if e.Kind == File {
			line += fmt.Sprintf(" %d %d", e.Size, e.Mtime)
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

// The two catalogs of reference "catalog", section 5.
func TestReferenceExamples(t *testing.T) {
	tests := []struct {
		what, hex, archive string
		want               []string
	}{
		{
			"worked example",
			"91fd60f9c46758d5" + "0f 02 66 05 612e747874 05 8100 6c 02 6c6e" +
				"12 01 64 0e 726f6f742e707861722e64696478 10" + "1800000000000000",
			rootArchive,
			[]string{"f a.txt 5 -1", "l ln"},
		},
		{
			"empty archive",
			"91fd60f9c46758d5" + "01 00" + "13 01 64 0f 656d7074792e707861722e64696478 02" + "0a00000000000000",
			"empty.pxar.didx",
			nil,
		},
	}
	for _, tt := range tests {
		got, err := list(unhex(t, tt.hex), tt.archive)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.what, got, err, tt.want)
		}
	}
}

func TestWalkVisitsOneArchiveInStoredOrder(t *testing.T) {
	stream := encode(
		dir("etc.pxar.didx", file("passwd", 1, 2)),
		dir(rootArchive,
			file("z", 1<<63, 1593179765),
			dir("a", dir("b", other("c", HardLink), other("d", CharDevice)), file("e", 0, 0)),
			dir("empty"),
			other("blk", BlockDevice), other("fifo", Fifo), other("sock", Socket),
			file("\xff\xfe", 1, -1<<63),
		),
		dir(rootArchive, file("second of that name", 1, 2)),
	)
	got, err := list(stream, rootArchive)
	want := []string{
		"f z 9223372036854775808 1593179765",
		"d a", "d a/b", "h a/b/c", "c a/b/d", "f a/e 0 0",
		"d empty", "b blk", "p fifo", "s sock",
		"f \xff\xfe 1 -9223372036854775808",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// A directory with an unusable name is skipped with all that is below it.
func TestWalkSkipsNamesThatAreNone(t *testing.T) {
	bad := []string{"", ".", "..", "a/b", "/", "a\x00b", strings.Repeat("n", 256), strings.Repeat("n", 4095)}
	var nodes []node
	for _, s := range bad {
		nodes = append(nodes, file(s, 1, 1), dir(s, file("below", 1, 1)), other(s, Symlink))
	}
	longest := strings.Repeat("n", 255)
	nodes = append(nodes, other(longest, Symlink), other("...", Symlink))
	got, err := list(encode(dir(rootArchive, nodes...)), rootArchive)
	if want := []string{"l " + longest, "l ..."}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := encode(dir(rootArchive))
	wrongMagic := bytes.Clone(good)
	wrongMagic[0] ^= 1
	for what, stream := range map[string][]byte{
		"empty":                   nil,
		"magic only":              good[:8],
		"no block":                frame(8, nil),
		"wrong magic":             wrongMagic,
		"root in the magic":       frame(7, []byte{1, 0}),
		"root in the pointer":     frame(10, []byte{1, 0}),
		"root behind":             frame(18, []byte{1, 0}),
		"root far behind":         frame(1<<63, []byte{1, 0}),
		"root pointer of all one": frame(1<<64-1, []byte{1, 0}),
	} {
		if _, err := Open(bytes.NewReader(stream), int64(len(stream))); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: Open = %v, want a corrupt error", what, err)
		}
	}
	for _, size := range []int64{-1, 0, int64(len(good)) + 1, 1 << 62} {
		if _, err := Open(bytes.NewReader(good), size); !errors.Is(err, corrupt.Err) {
			t.Errorf("size %d instead of %d: Open = %v, want a corrupt error", size, len(good), err)
		}
	}
}

// Reference "catalog", section 4. Each case is the root block, at offset 10,
// behind an empty directory at 8.
func TestWalkRefuses(t *testing.T) {
	huge := strings.Repeat("ff", 9) + "01"
	for what, root := range map[string]string{
		"length 0":                      "00",
		"length leaves the stream":      "7f 00",
		"length 2^64-1":                 huge + "00",
		"length without end":            "ff",
		"count missing":                 "01 80",
		"count too large":               "02 05 6c",
		"count 2^64-1":                  "0d " + huge + "6c0161",
		"bytes behind the last entry":   "02 00 00",
		"unknown type":                  "04 01 78 01 61",
		"type 0":                        "04 01 00 01 61",
		"no name length":                "02 01 64",
		"name length without end":       "03 01 64 80",
		"name of 4096 bytes":            "04 01 64 8020",
		"name leaves its block":         "04 01 64 02 61",
		"name of 2^64-1 bytes":          "0c 01 64" + huge,
		"directory without offset":      "04 01 64 01 61",
		"directory at its parent":       "05 01 64 01 61 00",
		"directory in the magic":        "05 01 64 01 61 03",
		"directory before the stream":   "05 01 64 01 61 7f",
		"directory 2^64-1 before":       "0e 01 64 01 61" + huge,
		"file without size":             "04 01 66 01 61",
		"file without time":             "05 01 66 01 61 05",
		"file time without terminator":  "06 01 66 01 61 05 81",
		"size above 2^64":               "0f 01 66 01 61" + strings.Repeat("ff", 9) + "02 00",
		"archive missing":               "01 00",
		"archive under another name":    "05 01 64 01 62 02",
		"archive is no directory":       "04 01 6c 01 61",
		"archive is a file":             "06 01 66 01 61 05 05",
		"first of that name is no dir":  "08 02 6c 01 61 64 01 61 02",
		"child leaves into its parent":  "05 01 64 01 61 01", // starts at 9, the 00 of the empty one
		"second entry broken, if found": "05 02 78 01 61 02",
	} {
		stream := frame(10, append([]byte{1, 0}, unhex(t, root)...))
		if lines, err := list(stream, "a"); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %q, %v, want a corrupt error", what, lines, err)
		}
	}
}

func TestChildMustEndBeforeItsParent(t *testing.T) {
	// A block at 8 claims 9 bytes and so contains its parent at 10.
	stream := frame(10, unhex(t, "09 00 06 01 64 01 61 02 00"))
	if lines, err := list(stream, "a"); !errors.Is(err, corrupt.Err) {
		t.Errorf("%q, %v, want a corrupt error", lines, err)
	}
}

// nested returns a tree of directories with that many names on its path.
func nested(depth int) node {
	n := dir("x")
	for range depth - 1 {
		n = dir("x", n)
	}
	return n
}

func TestDepthIsLimited(t *testing.T) {
	// The deepest directory must be read, too, to know that it is empty.
	if lines, err := list(encode(dir(rootArchive, nested(maxDepth-1))), rootArchive); err != nil || len(lines) != maxDepth-1 {
		t.Errorf("%d levels: %d entries, %v", maxDepth-1, len(lines), err)
	}
	if lines, err := list(encode(dir(rootArchive, nested(maxDepth))), rootArchive); !errors.Is(err, corrupt.Err) {
		t.Errorf("%d levels: %d entries, %v, want a corrupt error", maxDepth, len(lines), err)
	}
}

// Each directory lists the one before it twice: a catalog of some hundred
// bytes with 2^40 paths.
func TestSharedDirectoriesDoNotExplode(t *testing.T) {
	blocks := []byte{1, 0}
	last := 8
	for range 40 {
		start := magicSize + len(blocks)
		delta := byte(start - last)
		blocks = append(blocks, 9, 2, 'd', 1, 'a', delta, 'd', 1, 'b', delta)
		last = start
	}
	start := magicSize + len(blocks)
	blocks = append(blocks, 5, 1, 'd', 1, 'a', byte(start-last))
	lines, err := list(frame(uint64(start), blocks), "a")
	if !errors.Is(err, corrupt.Err) || len(lines) > 1000 {
		t.Errorf("%d entries, %v, want a corrupt error soon", len(lines), err)
	}
}

func TestWalkStopsWithTheErrorOfItsFunction(t *testing.T) {
	stream := encode(dir(rootArchive, file("a", 1, 1), file("b", 1, 1)))
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	calls := 0
	err = c.Walk(context.Background(), r, rootArchive, func([]string, Entry) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Walk = %v after %d calls, want the function's error after 1", err, calls)
	}
}

func TestWalkStopsWithItsContext(t *testing.T) {
	var files []node
	for i := range 10_000 {
		files = append(files, file(fmt.Sprint(i), 1, 1))
	}
	stream := encode(dir(rootArchive, files...))
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	err = c.Walk(ctx, r, rootArchive, func([]string, Entry) error {
		calls++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls > 2*checkEvery {
		t.Errorf("Walk = %v after %d entries", err, calls)
	}
}

// failing reads up to an offset and then fails.
type failing struct {
	*bytes.Reader
	from int64
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.Reader.ReadAt(p, off)
}

func TestErrorsOfTheReaderArePassedOn(t *testing.T) {
	stream := encode(dir(rootArchive, file("a", 1, 1)))
	good := bytes.NewReader(stream)
	c, err := Open(good, int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk on fire")
	none := func([]string, Entry) error { return nil }
	for from := range int64(len(stream)) {
		r := failing{good, from, broken}
		if _, err := Open(r, int64(len(stream))); !errors.Is(err, broken) || errors.Is(err, corrupt.Err) {
			t.Errorf("Open with a failure at %d: %v", from, err)
		}
		if from >= int64(len(stream))-pointerSize {
			continue // not read again
		}
		if err := c.Walk(context.Background(), r, rootArchive, none); !errors.Is(err, broken) || errors.Is(err, corrupt.Err) {
			t.Errorf("Walk with a failure at %d: %v", from, err)
		}
		r.err = io.EOF
		if err := c.Walk(context.Background(), r, rootArchive, none); !errors.Is(err, corrupt.Err) {
			t.Errorf("Walk of a stream that ends at %d: %v, want a corrupt error", from, err)
		}
	}
}

// Directories above firstRead and readStep take several reads.
func TestLargeDirectories(t *testing.T) {
	for _, n := range []int{200, 210, 220, 300, 60_000} {
		var files []node
		for i := range n {
			files = append(files, file(fmt.Sprintf("some longer name %08d", i), uint64(i), int64(-i)))
		}
		lines, err := list(encode(dir(rootArchive, dir("d", files...), dir("e", files[:n/2]...))), rootArchive)
		if want := n + n/2 + 2; err != nil || len(lines) != want {
			t.Errorf("%d files: %d entries, %v, want %d", n, len(lines), err, want)
		}
	}
}

func FuzzCatalog(f *testing.F) {
	f.Add(unhex(f, "91fd60f9c46758d50f026605612e7478740581006c026c6e1201640e726f6f742e707861722e64696478101800000000000000"))
	f.Add(encode(dir(rootArchive, dir("a", dir("b", other("c", HardLink))), file("..", 1, 1))))
	f.Add(encode(dir("other"), dir(rootArchive, nested(20))))
	f.Add(frame(10, []byte{1, 0, 5, 1, 'd', 1, 'a', 2}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		lines, err := list(stream, rootArchive)
		if err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatalf("error is not corrupt: %v", err)
		}
		if len(lines) > len(stream)/2 {
			t.Fatalf("%d entries in a catalog of %d bytes", len(lines), len(stream))
		}
		for _, line := range lines {
			if strings.Contains(line, "\x00") || strings.Contains(line, "//") {
				t.Fatalf("unusable name in %q", line)
			}
		}
	})
}

func BenchmarkWalk(b *testing.B) {
	const dirs, files = 1000, 1000
	var tree []node
	for i := range dirs {
		var d []node
		for j := range files {
			d = append(d, file(fmt.Sprintf("file-%06d", j), uint64(j), 1700000000))
		}
		tree = append(tree, dir(fmt.Sprintf("dir-%06d", i), d...))
	}
	stream := encode(dir(rootArchive, tree...))
	r := bytes.NewReader(stream)
	c, err := Open(r, int64(len(stream)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := c.Walk(context.Background(), r, rootArchive, func([]string, Entry) error {
			n++
			return nil
		})
		if err != nil || n != dirs*(files+1) {
			b.Fatalf("%d entries, %v", n, err)
		}
	}
}
