package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// prologue is what each program begins with. Functions take what they use, so
// that nothing has to be made.
const prologue = `package p

import (
	"context"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
)

var (
	_ context.Context
	_ maint.Guard
	_ name.Namespace
	_ store.CanRead
)

`

// allowed are programs that must compile: else the others would prove nothing.
var allowed = map[string]string{
	"read through a Reader": `func f(ctx context.Context, r *store.Reader, s *store.Stream, p []byte) {
		_, _ = store.Types(ctx, r, name.Namespace{})
		_, _ = s.ReadAt(ctx, r, p, 0)
	}`,
	"read and write through a Writer":         `func f(w *store.Writer) { _, _ = store.Statfs(w); _, _ = store.BeginSnapshot(context.Background(), w, name.Group{}, store.SnapshotOptions{}) }`,
	"begin a snapshot through a Writer":       `func f(ctx context.Context, w *store.Writer, g name.Group) { _, _ = store.BeginSnapshot(ctx, w, g, store.SnapshotOptions{}) }`,
	"zero values, which answer an error":      `var l store.Lookup; var r store.Reader; var w store.Writer`,
	"assert a right, which fails at run time": `func f(r store.CanRead) { _, _ = r.(store.CanWrite) }`,
}

// forbidden are programs that must not compile, with what the compiler says.
var forbidden = map[string]struct{ program, complaint string }{
	"begin a snapshot through a Reader": {`func f(ctx context.Context, r *store.Reader, g name.Group) { store.BeginSnapshot(ctx, r, g, store.SnapshotOptions{}) }`, "does not implement"},
	"begin a snapshot through a Lookup": {`func f(ctx context.Context, l *store.Lookup, g name.Group) { store.BeginSnapshot(ctx, l, g, store.SnapshotOptions{}) }`, "does not implement"},
	"make a SnapshotWriter":             {`func f(w *store.Writer) store.SnapshotWriter { return store.SnapshotWriter{right: w} }`, "unexported field"},
	"list through a Lookup":             {`func f(ctx context.Context, l *store.Lookup) { store.Types(ctx, l, name.Namespace{}) }`, "does not implement"},
	"stat through a Lookup":             {`func f(l *store.Lookup) { store.Statfs(l) }`, "does not implement"},
	"load through a Lookup":             {`func f(ctx context.Context, l *store.Lookup, s name.Snapshot) { store.LoadSnapshot(ctx, l, s) }`, "does not implement"},
	"read through a Lookup":             {`func f(ctx context.Context, l *store.Lookup, s *store.Stream) { s.ReadAt(ctx, l, nil, 0) }`, "does not implement"},
	"open through a Lookup":             {`func f(ctx context.Context, l *store.Lookup, a *store.Archive) { a.Root(ctx, l) }`, "does not implement"},
	"a Lookup as a right":               {`func f(l *store.Lookup) store.CanRead { return l }`, "does not implement"},
	"write through a Reader":            {`func f(r *store.Reader) { store.BeginSnapshot(context.Background(), r, name.Group{}, store.SnapshotOptions{}) }`, "does not implement"},
	"a right to read as to write":       {`func f(r store.CanRead) { store.BeginSnapshot(context.Background(), r, name.Group{}, store.SnapshotOptions{}) }`, "does not implement"},
	"assert a Reader to write":          {`func f(r *store.Reader) { _ = store.CanRead(r).(*store.Lookup) }`, "impossible type assertion"},
	"a Reader by value":                 {`func f(r store.Reader) { store.Statfs(r) }`, "does not implement"},
	"Lookup to Reader":                  {`func f(l *store.Lookup) { _ = (*store.Reader)(l) }`, "cannot convert"},
	"Lookup to Writer":                  {`func f(l *store.Lookup) { _ = (*store.Writer)(l) }`, "cannot convert"},
	"Reader to Writer":                  {`func f(r *store.Reader) { _ = (*store.Writer)(r) }`, "cannot convert"},
	"Writer to Reader":                  {`func f(w *store.Writer) { _ = (*store.Reader)(w) }`, "cannot convert"},
	"Reader to Lookup":                  {`func f(r *store.Reader) { _ = (*store.Lookup)(r) }`, "cannot convert"},
	"Reader value to Writer value":      {`func f(r store.Reader) { _ = store.Writer(r) }`, "cannot convert"},
	"Lookup value to Reader value":      {`func f(l store.Lookup) { _ = store.Reader(l) }`, "cannot convert"},
	"a right of one's own": {`type mine struct{}
		func (mine) reading() (any, error) { return nil, nil }
		var _ store.CanRead = mine{}`, "does not implement"},
	"a right to write of one's own": {`type mine struct{ store.CanRead }
		func (mine) writing() (any, error) { return nil, nil }
		var _ store.CanWrite = mine{}`, "does not implement"},
	"call what seals the right":             {`func f(r *store.Reader) { r.reading() }`, "reading undefined"},
	"call it through the interface":         {`func f(r store.CanRead) { r.reading() }`, "reading undefined"},
	"reach into a Lookup":                   {`func f(l *store.Lookup) { _ = l.ds }`, "ds undefined"},
	"fill a Reader":                         {`func f() store.Reader { return store.Reader{r: nil} }`, "unexported field"},
	"give a decoder what has zeros":         {`func f(s *store.Salvaged) { s.At(nil, nil) }`, "At undefined"},
	"an image with zeros as an io.ReaderAt": {`func f(s *store.SalvagedImage) interface{ ReadAt(p []byte, off int64) (int, error) } { return s }`, "does not implement"},
	"make a Stream of nothing":              {`func f(s *store.Snapshot) store.Stream { return store.Stream{snap: s} }`, "unexported field"},
	"open a datastore's directory":          {`func f(l *store.Lookup) { store.datastore.open(l) }`, "not exported"},
	"release the guard of another":          {`func f(r *store.Reader) { var g *maint.Guard = r; _ = g }`, "cannot use"},
}

func TestProgramsThatMustNotCompile(t *testing.T) {
	check := newChecker(t)
	for what, program := range allowed {
		if err := check(program); err != nil {
			t.Errorf("%s: %v, want no error", what, err)
		}
	}
	for what, c := range forbidden {
		if err := check(c.program); err == nil {
			t.Errorf("%s: compiles", what)
		} else if !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: %v, want %q", what, err, c.complaint)
		}
	}
}

// newChecker returns a function that compiles a program as a package of
// another module would be.
func newChecker(t *testing.T) func(program string) error {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".", "context").Output()
	if err != nil {
		t.Fatalf("go list: %v", describe(err))
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[path] = file
	}
	fset := token.NewFileSet()
	imp := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("%s is not among what store imports", path)
		}
		return os.Open(exports[path])
	})
	return func(program string) error {
		file, err := parser.ParseFile(fset, "p.go", prologue+program, 0)
		if err != nil {
			t.Fatalf("%v in\n%s", err, program)
		}
		_, err = (&types.Config{Importer: imp}).Check("example.com/p", fset, []*ast.File{file}, nil)
		return err
	}
}

func describe(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// A guard that is copied would be released twice; go vet finds the copy.
func TestVetFindsCopiedGuards(t *testing.T) {
	const copies = "package storetest\n\nimport \"github.com/pbsfs/pbsfs/maint\"\n\nfunc F(g *maint.Guard) bool { h := *g; return h.Held() }\n"
	const uses = "package storetest\n\nimport \"github.com/pbsfs/pbsfs/maint\"\n\nfunc F(g *maint.Guard) bool { h := g; return h.Held() }\n"
	if out, err := vet(t, uses); err != nil {
		t.Errorf("go vet of a program that does not copy: %v\n%s", err, out)
	}
	if out, err := vet(t, copies); err == nil || !strings.Contains(out, "copies lock value") {
		t.Errorf("go vet of a program that copies a guard: %v\n%s", err, out)
	}
}

// vet runs go vet on a package with a file that only the overlay has.
func vet(t *testing.T, program string) (string, error) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, overlay := filepath.Join(dir, "p.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "storetest/overlaid.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{file: []byte(program), overlay: text} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("go", "vet", "-overlay", overlay, "-copylocks", "./storetest").CombinedOutput()
	return string(out), err
}
