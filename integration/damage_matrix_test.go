package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// diskFault is the damage that this test does itself: the disk cannot read the file.
const diskFault = "I/O error"

// unsummed are kinds of files that nothing has a checksum of.
var unsummed = []string{"client log", "owner", "notes"}

// Everything that can happen to a file of a datastore happens to each kind of file. What is
// served is the truth, or an error, and that only of what needs the file; the log says it
// once; verify finds it; and the process goes on. docs/reliability.md has the result:
// PBSFS_UPDATE=1 writes it there.
func TestDamageMatrix(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	s, key := storetest.New(t), storetest.NewKey(t, 5)
	rows := s.Matrix(storetest.MatrixOptions{Key: key, Others: []string{diskFault}})
	h := newHost(t)
	flags := []string{"--keyfile", h.rawKey(5)}
	weak, at := weakFile(t, filepath.Join(s.Dir, rows[0].Like))
	for _, r := range rows {
		if r.Damage == diskFault {
			bind(t, at, filepath.Join(s.Dir, r.Target))
		}
	}
	weak.set(true, false)
	m := h.mount(s.Dir, append(flags, "--cache-size", "16M")...)
	lines := m.checkRows(rows, h.verified(s.Dir, flags))
	checkDocumented(t, "damage", matrixText(lines))
}

// The same for objects of a bucket, as far as they can be damaged like that.
func TestDamageMatrixInABucket(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	s := storetest.In(t, filepath.Join(tempDir(t), "pbsbucket", "tank"))
	rows := s.Matrix(storetest.MatrixOptions{
		Kinds: []string{"chunk of a file", "chunk of an image", "dynamic index", "fixed index", "blob", "manifest", "owner"}, Objects: true,
	})
	server := startFakeWith(t, filepath.Dir(filepath.Dir(s.Dir)), func(path string) string {
		key, _ := strings.CutPrefix(path, s.Dir+"/")
		if !strings.HasPrefix(key, ".chunks/") {
			key = ".cnt/" + key
		}
		return "/pbsbucket/tank/" + key
	})
	m := bucketHost(t).mount("s3://pbsbucket/tank", append(server.flags(), "--cache-size", "16M")...)
	m.checkRows(rows, m.host.verified("s3://pbsbucket/tank", server.flags()))
}

// checkRows checks what is served of all rows, and that the process has stood it.
func (m *mount) checkRows(rows []storetest.Row, found foundDamage) (lines []matrixLine) {
	m.t.Helper()
	done := make(chan struct{})
	var at atomic.Value
	go func() {
		defer close(done)
		for _, r := range rows {
			at.Store(r.Kind + ", " + r.Damage)
			lines = append(lines, m.checkRow(m.t, r, found.of(r)))
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * patience):
		m.t.Fatalf("reading has not ended; it was at: %s", at.Load())
	}
	m.logged(m.t, lines)
	if !m.process.alive() {
		m.t.Error("the serving process died")
	}
	if peak := m.process.status(m.t, "VmHWM") << 10; peak > 512<<20 {
		m.t.Errorf("the serving process took %d MiB", peak>>20)
	}
	return lines
}

// rawKey writes a key file for a key whose bytes all are b.
func (h *host) rawKey(b byte) string {
	h.t.Helper()
	var raw [32]byte
	for i := range raw {
		raw[i] = b
	}
	text, err := keys.NewFile(raw, time.Now())
	must(h.t, err)
	return h.file("key.json", string(text))
}

// foundDamage is what verify has found: snapshots with damaged files, and chunks by digest.
type foundDamage struct{ damaged, unfinished map[string]bool }

// verified verifies a datastore that has damage.
func (h *host) verified(dir string, flags []string) foundDamage {
	h.t.Helper()
	got := h.run(append([]string{"verify", dir, "--json"}, flags...)...)
	if got.code != 5 {
		h.t.Errorf("verify: exit code %d, want 5: %s", got.code, got.stderr)
	}
	f := foundDamage{make(map[string]bool), make(map[string]bool)}
	for line := range strings.Lines(got.stdout) {
		var e struct{ Event, Chunk, Snapshot, File, Note string }
		must(h.t, json.Unmarshal([]byte(line), &e))
		switch {
		case e.Event == "damage" && e.Chunk != "":
			f.damaged[e.Chunk] = true
		case e.Event == "damage":
			f.damaged[e.Snapshot] = true
		case e.Note == "unfinished":
			f.unfinished[e.Snapshot] = true
		}
	}
	return f
}

// of says whether the damage of a row was found.
func (f foundDamage) of(r storetest.Row) string {
	switch {
	case f.damaged[r.Snapshot], f.damaged[filepath.Base(r.Target)], f.damaged[filepath.Base(r.Like)]:
		return "found"
	case f.unfinished[r.Snapshot]:
		return "as unfinished"
	}
	return "not found"
}

// fate is what becomes of a file.
type fate uint8

const (
	whole   fate = iota
	partly       // EIO for some of its bytes, the truth for the others
	failing      // EIO
	gone         // no such file
	other        // other bytes
)

// checkRow reads all of a row, and checks that only what needs the damaged file suffers.
func (m *mount) checkRow(t *testing.T, r storetest.Row, found string) matrixLine {
	what := r.Kind + ", " + r.Damage
	got := make(map[string]fate)
	for p, truth := range r.Truth {
		state, err := readServed(m.path(r.Group, p), truth)
		got[p] = state
		hit := slices.ContainsFunc(r.Hit, func(h string) bool { return p == h || strings.HasPrefix(p, h+"/") })
		switch {
		case err != nil:
			t.Errorf("%s: %s: %v", what, p, err)
		case state != whole && !hit:
			t.Errorf("%s: %s: %v, and it has nothing to do with that", what, p, state)
		case state == other && !slices.Contains(unsummed, r.Kind):
			t.Errorf("%s: %s: other bytes are served", what, p)
		}
	}
	m.checkNames(t, what, r, got)
	line := matrixLine{r.Kind, r.Damage, m.describe(r, got), found, r.Group, 0}
	for _, state := range got {
		if state == partly || state == failing {
			line.causes = 1
		}
	}
	if line.causes > 0 && found == "not found" && !slices.Contains([]string{"owner", "notes"}, r.Kind) {
		t.Errorf("%s: %s, and verify finds nothing", what, line.served)
	}
	return line
}

// readServed reads a file, and says what became of it.
func readServed(path, truth string) (fate, error) {
	content, err := os.ReadFile(path)
	switch {
	case err == nil && string(content) == truth:
		return whole, nil
	case err == nil:
		return other, nil
	case errors.Is(err, fs.ErrNotExist):
		return gone, nil
	case !errors.Is(err, unix.EIO):
		return failing, err
	}
	f, err := os.OpenFile(path, unix.O_DIRECT, 0) // no more is read than what is asked for
	if err != nil {
		return failing, nil //nolint:nilerr // that is what became of it
	}
	defer f.Close()
	block, state := 50, failing
	if strings.HasSuffix(path, ".img") {
		block = 4096
	}
	for off := 0; off < len(truth); off += block {
		p := make([]byte, min(block, len(truth)-off))
		switch n, err := pread(int(f.Fd()), p, int64(off)); {
		case err != nil && !errors.Is(err, unix.EIO):
			return failing, err
		case err != nil:
		case string(p[:n]) != truth[off:off+len(p)]:
			return other, nil
		default:
			state = partly
		}
	}
	return state, nil
}

// checkNames lists the directories of a row: what is not complete must say so.
func (m *mount) checkNames(t *testing.T, what string, r storetest.Row, got map[string]fate) {
	want := make(map[string][]string)
	for p, state := range got {
		if state == gone {
			continue
		}
		for ; p != "."; p = filepath.Dir(p) {
			want[filepath.Dir(p)] = append(want[filepath.Dir(p)], filepath.Base(p))
		}
	}
	for dir, names := range want {
		list, err := readNames(m.path(r.Group, dir))
		if err != nil {
			if !errors.Is(err, unix.EIO) {
				t.Errorf("%s: listing %s: %v", what, dir, err)
			}
			continue
		}
		for _, n := range names {
			if !slices.Contains(list, n) {
				t.Errorf("%s: the list of %s looks complete, and has no %s", what, dir, n)
			}
		}
	}
}

// describe says in words what is served of a row.
func (m *mount) describe(r storetest.Row, got map[string]fate) string {
	var lost []string
	any := func(is fate) bool { return slices.ContainsFunc(lost, func(p string) bool { return got[p] == is }) }
	for p, state := range got {
		if state != whole {
			lost = append(lost, p)
		}
	}
	slices.Sort(lost)
	if _, err := os.Lstat(m.path(r.Snapshot)); errors.Is(err, unix.ENOENT) {
		return "the snapshot is not shown"
	}
	if _, err := readNames(m.path(r.Snapshot)); err != nil {
		return "I/O error for the snapshot"
	}
	switch {
	case len(lost) == 0:
		return "everything"
	case any(other):
		return "the changed bytes: nothing has a checksum of them"
	case any(gone) && any(failing):
		return "what the other one lists, with I/O errors"
	case any(gone):
		return "the file is not shown"
	case any(partly):
		return "I/O error for the bytes in it"
	}
	_, item, _ := strings.Cut(lost[0], "/")
	item, _, inside := strings.Cut(item, "/")
	if !inside {
		return "I/O error for the file"
	}
	for p, state := range got {
		if state == whole && strings.HasPrefix(p, storetest.RowTime+"/"+item+"/") {
			return "I/O error for the entries in it"
		}
	}
	if _, err := readNames(m.path(r.Snapshot, item)); err == nil {
		return "I/O error for all contents in it"
	}
	return "I/O error for the archive"
}

// matrixLine is the result of a row. causes is how many faults the log must name: at least
// one. Two files that were swapped may be two, and so are two absurd lines.
type matrixLine struct {
	kind, damage, served, verify string
	group                        string
	causes                       int
}

// groupOfRow finds the group of a row in a line of the log.
var groupOfRow = regexp.MustCompile(`host/r[0-9]+-[0-9]+/`)

// logged checks that the log names the damage of each row once.
func (m *mount) logged(t *testing.T, lines []matrixLine) {
	t.Helper()
	eventually(t, "the log naming each damage once", func() error {
		count := make(map[string]int)
		for _, line := range m.logLines("cannot be served") {
			count[groupOfRow.FindString(line)]++
		}
		for _, l := range lines {
			n := count[l.group+"/"]
			several := l.damage == "swapped" || l.damage == "absurd sizes listed"
			if n < l.causes || n > l.causes && (n > 2 || !several) {
				return unlike("%s, %s: %d lines name it, want %d", l.kind, l.damage, n, l.causes)
			}
		}
		return nil
	})
}

// matrixText shows the results, one line for what is the same of one kind.
func matrixText(lines []matrixLine) string {
	var b strings.Builder
	b.WriteString("| file | what has happened to it | what is served | `verify` |\n|---|---|---|---|\n")
	for len(lines) > 0 {
		n := slices.IndexFunc(lines, func(l matrixLine) bool { return l.kind != lines[0].kind })
		if n < 0 {
			n = len(lines)
		}
		kindText(&b, lines[:n])
		lines = lines[n:]
	}
	return b.String()
}

// kindText shows the results of one kind; what happens most often comes last.
func kindText(b *strings.Builder, lines []matrixLine) {
	type result struct{ served, verify string }
	var order []result
	damages := make(map[result][]string)
	for _, l := range lines {
		r := result{l.served, l.verify}
		if damages[r] == nil {
			order = append(order, r)
		}
		damages[r] = append(damages[r], l.damage)
	}
	slices.SortStableFunc(order, func(x, y result) int { return len(damages[x]) - len(damages[y]) })
	for i, r := range order {
		name, what := lines[0].kind, strings.Join(damages[r], ", ")
		if i > 0 {
			name = ""
		}
		switch {
		case i < len(order)-1 || len(lines) == 1:
		case i == 0:
			what = "anything"
		default:
			what = "anything else"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, what, r.served, r.verify)
	}
}

// checkDocumented compares a part of docs/reliability.md, between two comments, with a text,
// or writes it there.
func checkDocumented(t *testing.T, part, text string) {
	t.Helper()
	const file = "../docs/reliability.md"
	page, err := os.ReadFile(file)
	must(t, err)
	begin, end := "<!-- begin "+part+" -->\n", "<!-- end "+part+" -->\n"
	before, rest, ok := strings.Cut(string(page), begin)
	was, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Errorf("docs/reliability.md has no place for %q", part)
	case os.Getenv("PBSFS_UPDATE") != "":
		must(t, os.WriteFile(file, []byte(before+begin+text+end+after), 0o644))
	case was != text:
		t.Errorf("docs/reliability.md says of %s something else than is the case; with PBSFS_UPDATE=1 this test writes there:\n%s", part, text)
	}
}
