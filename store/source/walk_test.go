package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// chain makes directories below each other, each with a file behind the next
// one, and returns a function that removes them: the path is too long for
// others.
func chain(t *testing.T, dir, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_PATH, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, name, 0o755))
		file, err := unix.Openat(fd, "z", unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err, unix.Close(file))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_PATH, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
}

// A tree deeper than the kernel's paths and than what archives take: stored as
// far as they and catalogs go, with warnings, and with few descriptors.
func TestDeepTree(t *testing.T) {
	const levels, deepest = 1200, 1024
	dir := t.TempDir()
	name := strings.Repeat("d", 40)
	chain(t, dir, name, levels)
	before := descriptors(t)
	most := 0
	a := archive(t, dir, false, Options{}, func() { most = max(most, descriptors(t)) })
	below := strings.Repeat(name+"/", deepest-1) + name
	a.expectWarnings(t, below+": not in the catalog: ", below+"/"+name+": left out: cannot be stored")
	if most > before+maxOpen+5 || most < before+maxOpen/2 {
		t.Errorf("up to %d descriptors, %d before, want no more than %d more", most, before, maxOpen+5)
	}
	order, _ := a.decode(t)
	if len(order) != 2*deepest+2 || len(a.listed(t)) != 2*deepest-1 {
		t.Errorf("%d entries, %d of them in the catalog, want %d and %d", len(order), len(a.listed(t)), 2*deepest+2, 2*deepest-1)
	}
	files, _, err := open(t, dir).Total(t.Context(), Options{})
	if err != nil || files != 2*levels {
		t.Errorf("%d files, %v, want %d", files, err, 2*levels)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// Directories that are closed because of their depth are found again after
// somebody moved what is below them; what was moved away itself is not read on.
func TestDirectoriesMoveWhileTheyAreRead(t *testing.T) {
	const levels = 2 * maxOpen
	for name, test := range map[string]struct {
		move     func(dir string) error
		files    int
		warnings int
	}{
		"the deepest": {
			func(dir string) error {
				return os.Rename(deep(dir, levels), filepath.Join(dir, "moved"))
			}, levels, 0,
		},
		"one that is open": {
			func(dir string) error {
				return os.Rename(deep(dir, levels-3), filepath.Join(dir, "moved"))
			}, levels, 0,
		},
		"one that is closed": {
			func(dir string) error {
				return os.Rename(deep(dir, 20), filepath.Join(dir, "moved"))
			}, levels, 0,
		},
		"out and away": {
			func(dir string) error {
				if err := os.Rename(deep(dir, levels-1), filepath.Join(dir, "moved")); err != nil {
					return err
				}
				return os.RemoveAll(filepath.Join(dir, "d"))
			}, -1, -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := mkdir(t, base, "tree")
			chain(t, dir, "d", levels)
			seen := 0
			a := archive(t, dir, false, Options{}, func() {
				if seen++; seen == levels { // the deepest was entered
					must(t, test.move(dir))
				}
			})
			_, objects := a.decode(t)
			files := 0
			for path := range objects {
				if strings.HasSuffix(path, "z") {
					files++
				}
			}
			if test.warnings >= 0 && (files != test.files || len(a.warnings) != test.warnings) {
				t.Errorf("%d files, want %d; warnings %q", files, test.files, a.warnings)
			}
			if test.warnings < 0 && len(a.warnings) == 0 {
				t.Error("no warnings")
			}
		})
	}
}

func deep(dir string, levels int) string { return dir + strings.Repeat("/d", levels) }

func TestDescriptorsStayFlat(t *testing.T) {
	dir := t.TempDir()
	chain(t, dir, "d", 2*maxOpen)
	write(t, filepath.Join(dir, "file"), "x")
	must(t, os.Symlink("x", filepath.Join(dir, "link")))
	before := descriptors(t)
	for range 3 {
		tree, err := Open(dir)
		must(t, err)
		for range 3 {
			if err := tree.Unified(t.Context(), &full{10_000}, nil, "", Options{}); err == nil {
				t.Error("no error of a full writer")
			}
			if _, _, err := tree.Total(t.Context(), Options{}); err != nil {
				t.Error(err)
			}
		}
		must(t, tree.Close())
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// A mount point is an empty directory unless all file systems are asked for;
// what the kernel makes up is never entered.
func TestMountPoints(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for _, name := range []string{"other", "proc"} {
		mkdir(t, dir, name)
	}
	write(t, filepath.Join(dir, "file"), "below")
	write(t, filepath.Join(dir, "covered"), "below")
	mount := func(source, target, kind string, flags uintptr) {
		t.Helper()
		target = filepath.Join(dir, target)
		must(t, unix.Mount(source, target, kind, flags, ""))
		t.Cleanup(func() { must(t, unix.Unmount(target, 0)) })
	}
	mount("none", "other", "tmpfs", 0)
	write(t, filepath.Join(dir, "other", "inside"), "text")
	must(t, unix.Chmod(filepath.Join(dir, "other"), 0o1770))
	mount("none", "proc", "proc", 0)
	mount(filepath.Join(dir, "other", "inside"), "covered", "", unix.MS_BIND)
	for _, all := range []bool{false, true} {
		want := []string{"", "covered", "file", "other", "proc"}
		if all {
			want = []string{"", "covered", "file", "other", "other/inside", "proc"}
		}
		for _, a := range both(t, dir, Options{AllFileSystems: all}) {
			order, objects := a.decode(t)
			if !slices.Equal(order, want) {
				t.Errorf("all %v: got %q, want %q", all, order, want)
			}
			if got := objects["other"].Mode; got != pxar.TypeDir|0o1770 {
				t.Errorf("all %v: mount point with mode %#o", all, got)
			}
			if got := objects["covered"].data; got != "text" {
				t.Errorf("all %v: file that is mounted over another one has %q", all, got)
			}
		}
		files, _, err := open(t, dir).Total(t.Context(), Options{AllFileSystems: all})
		if err != nil || int(files) != len(want)-1 {
			t.Errorf("all %v: %d files, %v, want %d", all, files, err, len(want)-1)
		}
	}
}

// A file whose first name is too far up for a link is stored a second time.
// What must be stored empty is known by what it is, not by one of its paths.
func TestDirectoriesThatAreStoredEmpty(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(mkdir(t, dir, "a", "store"), "chunk"), "grows")
	write(t, filepath.Join(mkdir(t, dir, "b"), "file"), "text")
	at := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(filepath.Join(dir, "a", "store"), at))
	opts := Options{Empty: map[string]string{at: "because"}}
	for _, split := range []bool{false, true} {
		a := archive(t, dir, split, opts, nil)
		a.expectWarnings(t, "a/store: stored empty: because")
		order, _ := a.decode(t)
		if want := []string{"", "a", "a/store", "b", "b/file"}; !slices.Equal(order, want) {
			t.Errorf("stored %q, want %q", order, want)
		}
	}
	files, size, err := open(t, dir).Total(t.Context(), opts)
	if files != 4 || size != 4 || err != nil {
		t.Errorf("Total: %d entries, %d bytes, %v", files, size, err)
	}
	opts.Empty = map[string]string{at + "-not-there": ""}
	if err := open(t, dir).Unified(t.Context(), &full{1 << 20}, nil, "", opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is to be empty does not exist: %v", err)
	}
}

func TestLinkToLongPath(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("d", 250)
	chain(t, dir, name, 20)
	far := dir + strings.Repeat("/"+name, 2)
	fd, err := unix.Open(far, unix.O_DIRECTORY|unix.O_PATH, 0)
	must(t, err)
	for range 17 {
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_PATH, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	must(t, unix.Linkat(unix.AT_FDCWD, filepath.Join(dir, "z"), fd, "linked", 0), unix.Close(fd))
	must(t, os.Link(filepath.Join(dir, "z"), filepath.Join(dir, "zz")))
	write(t, filepath.Join(dir, "z"), "content")
	a := archive(t, dir, false, Options{}, nil)
	a.expectWarnings(t)
	_, objects := a.decode(t)
	first := objects[strings.Repeat(name+"/", 19)+"linked"]
	for path, link := range map[string]bool{"z": false, "zz": true} {
		if o := objects[path]; o.data != "content" || o.Link != link || o.NamePos == first.NamePos {
			t.Errorf("%q: link %v to %d, %q, want link %v, not to %d", path, o.Link, o.NamePos, o.data, link, first.NamePos)
		}
	}
	if first.data != "content" {
		t.Errorf("first name has %q", first.data)
	}
}

// Files are compared by what they are, not by their numbers alone: a number is
// given to a new file when the old one is gone.
func TestLinksForgetChangedFiles(t *testing.T) {
	l := make(links[string])
	st := unix.Stat_t{Dev: 1, Ino: 2, Nlink: 3, Size: 4, Mtim: unix.Timespec{Sec: 5, Nsec: 6}}
	l.put(&st, "first")
	for name, change := range map[string]func(st *unix.Stat_t){
		"other number": func(st *unix.Stat_t) { st.Ino++ }, "other device": func(st *unix.Stat_t) { st.Dev++ },
		"other size": func(st *unix.Stat_t) { st.Size++ }, "other time": func(st *unix.Stat_t) { st.Mtim.Nsec++ },
		"one name": func(st *unix.Stat_t) { st.Nlink = 1 },
	} {
		other := st
		change(&other)
		if got, ok := l.take(&other); ok {
			t.Errorf("%s: got %q", name, got)
		}
	}
	for i := range 2 {
		if got, ok := l.take(&st); !ok || got != "first" {
			t.Errorf("name %d: got %q, %v", i+2, got, ok)
		}
	}
	if len(l) != 0 {
		t.Errorf("%d files are remembered whose names were all seen", len(l))
	}
}

func TestManyNames(t *testing.T) {
	dir := t.TempDir()
	for i := range 5000 {
		write(t, filepath.Join(dir, fmt.Sprintf("%05d%s", i, strings.Repeat("x", i%200))), "")
	}
	order, _ := both(t, dir, Options{})[0].decode(t)
	if len(order) != 5001 || !slices.IsSorted(order) {
		t.Errorf("%d names, want 5001 in order", len(order))
	}
}

// BenchmarkUnified measures how fast contents get through.
func BenchmarkUnified(b *testing.B) {
	for name, tree := range map[string]struct{ files, size int }{"large": {4, 64 * mib}, "small": {5000, 4096}} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			for i := range tree.files {
				write(b, filepath.Join(dir, fmt.Sprint(i)), strings.Repeat("x", tree.size))
			}
			t := open(b, dir)
			b.SetBytes(int64(tree.files * tree.size))
			for b.Loop() {
				must(b, t.Unified(b.Context(), &full{1 << 40}, nil, "", Options{}))
			}
			b.ReportMetric(float64(tree.files*b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}
