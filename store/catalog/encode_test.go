package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// write has a tree written by an Encoder.
func write(t testing.TB, archives ...node) []byte {
	t.Helper()
	var buf bytes.Buffer
	e := NewEncoder(&buf)
	if err := errors.Join(writeAll(e, archives), e.Close()); err != nil {
		t.Fatal(err)
	}
	if e.Size() != int64(buf.Len()) {
		t.Errorf("Size = %d, want %d", e.Size(), buf.Len())
	}
	return buf.Bytes()
}

func writeAll(e *Encoder, nodes []node) error {
	for _, n := range nodes {
		if n.Kind != Dir {
			if err := e.Add(n.Entry); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(e.StartDir(n.Name), writeAll(e, n.children), e.EndDir()); err != nil {
			return err
		}
	}
	return nil
}

// The two catalogs of reference "catalog", section 5.
func TestEncoderWritesTheReferenceExamples(t *testing.T) {
	for _, tt := range []struct {
		archive node
		want    string
	}{
		{
			dir(rootArchive, file("a.txt", 5, -1), other("ln", Symlink)),
			"91fd60f9c46758d5 0f02 6605612e747874058100 6c026c6e 1201640e726f6f742e707861722e6469647810 1800000000000000",
		},
		{dir("empty.pxar.didx"), "91fd60f9c46758d5 0100 1301640f656d7074792e707861722e6469647802 0a00000000000000"},
	} {
		if got := write(t, tt.archive); !bytes.Equal(got, unhex(t, tt.want)) {
			t.Errorf("%s: %x, want %s", tt.archive.Name, got, tt.want)
		}
	}
}

// randomTree returns nodes of all kinds, some of them directories.
func randomTree(rng *rand.Rand, depth int) []node {
	nodes := make([]node, rng.IntN(12))
	for i := range nodes {
		name := fmt.Sprintf("%c%s", 'a'+i, strings.Repeat("\xff", rng.IntN(200)))
		switch kind := []Kind{Dir, File, File, Symlink, HardLink, BlockDevice, CharDevice, Fifo, Socket}[rng.IntN(9)]; {
		case kind == File:
			nodes[i] = file(name, rng.Uint64()>>rng.IntN(64), int64(rng.Uint64())>>rng.IntN(64))
		case kind == Dir && depth > 0:
			nodes[i] = dir(name, randomTree(rng, depth-1)...)
		case kind == Dir:
			nodes[i] = dir(name)
		default:
			nodes[i] = other(name, kind)
		}
	}
	return nodes
}

// lines lists what a walk of the nodes must find.
func lines(prefix string, nodes []node) (out []string) {
	for _, n := range nodes {
		line := fmt.Sprintf("%s %s%s", n.Kind, prefix, n.Name)
		if n.Kind == File {
			line += fmt.Sprintf(" %d %d", n.Size, n.Mtime)
		}
		out = append(append(out, line), lines(prefix+n.Name+"/", n.children)...)
	}
	return out
}

func TestWalkFindsWhatTheEncoderWrote(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 200 {
		archives := []node{dir("a.pxar.didx", randomTree(rng, 4)...), dir("b.pxar.didx", randomTree(rng, 2)...)}
		stream := write(t, archives...)
		if want := encode(archives...); !bytes.Equal(stream, want) {
			t.Fatalf("stream is\n%x, want\n%x", stream, want)
		}
		for _, a := range archives {
			got, err := list(stream, a.Name)
			if want := lines("", a.children); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: %v, found\n%q, want\n%q", a.Name, err, got, want)
			}
		}
	}
}

func TestEncoderRefuses(t *testing.T) {
	var buf bytes.Buffer
	e := NewEncoder(&buf)
	refuse := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrEntry) || errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v, want ErrEntry", what, err)
		}
	}
	refuse("entry in no archive", e.Add(Entry{Name: "a", Kind: Symlink}))
	refuse("end of no directory", e.EndDir())
	for _, bad := range []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("n", 256)} {
		refuse("directory "+bad, e.StartDir(bad))
	}
	if err := e.StartDir(rootArchive); err != nil {
		t.Fatal(err)
	}
	refuse("close with an open directory", e.Close())
	for _, bad := range []string{"", ".", "..", "a/b", "a\x00", strings.Repeat("n", 256)} {
		refuse("entry "+bad, e.Add(Entry{Name: bad, Kind: Symlink}))
	}
	for _, kind := range []Kind{0, Dir, 'x'} {
		refuse("kind "+kind.String(), e.Add(Entry{Name: "a", Kind: kind}))
	}
	// None of it is in the way of what comes then.
	if err := errors.Join(e.Add(Entry{Name: "a", Kind: Symlink}), e.EndDir(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := list(buf.Bytes(), rootArchive); err != nil || !slices.Equal(got, []string{"l a"}) {
		t.Errorf("%q, %v", got, err)
	}
	for what, err := range map[string]error{
		"StartDir": e.StartDir("x"), "Add": e.Add(Entry{Name: "a", Kind: Symlink}), "EndDir": e.EndDir(), "Close": e.Close(),
	} {
		if err == nil {
			t.Errorf("%s of a closed encoder gave no error", what)
		}
	}
}

func TestEncoderKeepsTheDepth(t *testing.T) {
	deepest := nested(maxDepth - 1)
	if got, err := list(write(t, dir(rootArchive, deepest)), rootArchive); err != nil || len(got) != maxDepth-1 {
		t.Errorf("%d levels: %d entries, %v", maxDepth-1, len(got), err)
	}
	if err := writeAll(NewEncoder(io.Discard), []node{dir(rootArchive, nested(maxDepth))}); !errors.Is(err, ErrEntry) {
		t.Errorf("%d levels: %v, want ErrEntry", maxDepth, err)
	}
}

// failingWriter fails at the n-th write.
type failingWriter struct {
	n     int
	err   error
	short bool
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.n--; w.n >= 0 {
		return len(p), nil
	}
	if w.short {
		return len(p) - 1, nil
	}
	return 0, w.err
}

func TestEncoderReportsTheWritersError(t *testing.T) {
	full := errors.New("disk full")
	for n := range 4 { // magic number, directory, root, pointer
		e := NewEncoder(&failingWriter{n: n, err: full})
		err := writeAll(e, []node{dir(rootArchive)})
		if again := e.Close(); !errors.Is(again, full) || n < 2 && !errors.Is(err, full) {
			t.Errorf("failure of write %d: %v, then %v", n, err, again)
		}
		e = NewEncoder(&failingWriter{n: n, short: true})
		_ = writeAll(e, []node{dir(rootArchive)})
		if err := e.Close(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("short write %d: %v, want ErrShortWrite", n, err)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	for b.Loop() {
		e := NewEncoder(io.Discard)
		_ = e.StartDir(rootArchive)
		for range 100 {
			_ = e.StartDir("directory")
			for range 1000 {
				_ = e.Add(Entry{"a file of some name", File, 12345, 1700000000})
			}
			_ = e.EndDir()
		}
		if err := errors.Join(e.EndDir(), e.Close()); err != nil {
			b.Fatal(err)
		}
	}
}

// copyArchive writes one archive of a catalog again.
func copyArchive(e *Encoder, c *Catalog, r io.ReaderAt, archive string) error {
	if err := e.StartDir(archive); err != nil {
		return err
	}
	depth := 0
	up := func(to int) error {
		for ; depth > to; depth-- {
			if err := e.EndDir(); err != nil {
				return err
			}
		}
		return nil
	}
	err := c.Walk(context.Background(), r, archive, func(path []string, entry Entry) error {
		if err := up(len(path) - 1); err != nil {
			return err
		}
		if entry.Kind != Dir {
			return e.Add(entry)
		}
		depth++
		return e.StartDir(entry.Name)
	})
	if err != nil {
		return err
	}
	return errors.Join(up(0), e.EndDir())
}
