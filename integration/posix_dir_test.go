package integration

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// dirent is an entry as getdents64(2) gives it.
type dirent struct {
	ino  uint64
	next int64 // position after the entry
	typ  byte
	name string
}

// openDir opens a directory by its descriptor.
func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// page reads some entries from the position of the descriptor; none at the end.
func page(fd, size int) ([]dirent, error) {
	buf := make([]byte, size)
	n, err := getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	var out []dirent
	for buf = buf[:n]; len(buf) > 0; {
		length := binary.NativeEndian.Uint16(buf[16:])
		name, _, _ := strings.Cut(string(buf[19:length]), "\x00")
		out = append(out, dirent{
			ino:  binary.NativeEndian.Uint64(buf),
			next: int64(binary.NativeEndian.Uint64(buf[8:])),
			typ:  buf[18],
			name: name,
		})
		buf = buf[length:]
	}
	return out, nil
}

// listAll reads all entries from the position of the descriptor on.
func listAll(fd, pageSize int) ([]dirent, error) {
	var out []dirent
	for {
		p, err := page(fd, pageSize)
		if err != nil || len(p) == 0 {
			return out, err
		}
		out = append(out, p...)
	}
}

// entriesOf returns all entries but "." and "..".
func entriesOf(t *testing.T, path string) []dirent {
	t.Helper()
	all, err := listAll(openDir(t, path), 32<<10)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return slices.DeleteFunc(all, func(d dirent) bool { return d.name == "." || d.name == ".." })
}

const smallPage = 700 // bytes: some twenty entries of manyFiles

func testSeekdirOverPages(t *testing.T, p *posixTree) {
	fd := openDir(t, p.nasty.path(manyFiles))
	var all []dirent
	random := rand.New(rand.NewPCG(1, 2))
	jump := func() {
		t.Helper()
		i := random.IntN(len(all) - 1)
		where, err := seek(fd, all[i].next, unix.SEEK_SET)
		must(t, err)
		got, err := page(fd, smallPage)
		must(t, err)
		if where != all[i].next || len(got) == 0 || got[0] != all[i+1] {
			t.Fatalf("after seeking to %d: got %d and %+v, want %+v", all[i].next, where, got, all[i+1])
		}
	}
	for {
		next, err := page(fd, smallPage)
		must(t, err)
		if len(next) == 0 {
			break
		}
		all = append(all, next...)
		if len(all) > 2 { // while it is listed, and not all of it is in the kernel's cache
			jump()
			_, err := seek(fd, all[len(all)-1].next, unix.SEEK_SET)
			must(t, err)
		}
	}
	checkMany(t, all)
	for range 300 {
		jump()
	}
	_, err := seek(fd, all[len(all)-1].next, unix.SEEK_SET)
	must(t, err)
	if got, err := page(fd, smallPage); err != nil || len(got) > 0 {
		t.Errorf("at the end: got %+v and %v, want nothing", got, err)
	}
}

// A listing that goes back into the page it has just read, and goes on with
// smaller pages, is complete. That is what the kernel does when a signal comes
// in the middle of a page.
func TestListingGoesBackIntoItsPage(t *testing.T) {
	needRoot(t)
	for _, size := range []int{smallPage, 4096, 12 << 10} {
		m := mountAt(t, fixture(t, "ds-nasty")) // a new one: nothing is in the kernel's cache
		fd := openDir(t, m.path(manyFiles))
		first, err := page(fd, 64<<10)
		must(t, err)
		all := slices.Clone(first[:len(first)/4])
		_, err = seek(fd, all[len(all)-1].next, unix.SEEK_SET)
		must(t, err)
		rest, err := listAll(fd, size)
		must(t, err)
		checkMany(t, append(all, rest...))
	}
}

// checkMany checks that the large directory is listed in full.
func checkMany(t *testing.T, all []dirent) {
	t.Helper()
	seen := make(map[string]bool)
	for _, d := range all {
		if seen[d.name] {
			t.Errorf("%q is listed twice", d.name)
		}
		seen[d.name] = true
	}
	if !seen["."] || !seen[".."] || len(seen) != 5000+2 {
		t.Errorf("got %d entries, want 5000, \".\" and \"..\"", len(seen))
	}
}

func testRewinddir(t *testing.T, p *posixTree) {
	fd := openDir(t, p.nasty.path(manyFiles))
	if _, err := page(fd, smallPage); err != nil {
		t.Fatal(err)
	}
	var lists [2][]dirent
	for i := range lists {
		_, err := seek(fd, 0, unix.SEEK_SET)
		must(t, err)
		lists[i], err = listAll(fd, 4096)
		must(t, err)
	}
	checkMany(t, lists[0])
	if !slices.Equal(lists[0], lists[1]) {
		t.Error("the second listing is not as the first one")
	}
}

func testParallelListings(t *testing.T, p *posixTree) {
	const readers = 8
	var all [readers][]dirent
	var errs [readers]error
	var done sync.WaitGroup
	for i := range readers {
		fd := openDir(t, p.nasty.path(manyFiles))
		done.Go(func() { all[i], errs[i] = listAll(fd, 1024<<(i%4)) })
	}
	done.Wait()
	for i := range readers {
		must(t, errs[i])
		if !slices.Equal(all[i], all[0]) {
			t.Errorf("listing %d is not as the first one", i)
		}
	}
	checkMany(t, all[0])
}

func testListingAgreesWithStat(t *testing.T, p *posixTree) {
	for _, dir := range []string{
		p.nasty.dir, p.nasty.path("host"), p.nasty.path("host/nasty"), p.nasty.path(snapDir),
		p.nasty.path(manyFiles), p.nasty.path(posixDir), p.nasty.path(nasty, "hard"), p.nasty.path(nasty, "names"),
		p.basic.dir, p.basic.path("ns/prod"), p.basic.path("ns"), p.basic.path("host/alpha"),
	} {
		entries := entriesOf(t, dir)
		if len(entries) == 0 {
			t.Errorf("%s: nothing is listed", dir)
		}
		for _, d := range entries {
			var st unix.Stat_t
			if err := lstat(filepath.Join(dir, d.name), &st); err != nil {
				t.Errorf("%s: %q is listed, but: %v", dir, d.name, err)
				continue
			}
			if got, want := fmt.Sprint(d.ino, d.typ), fmt.Sprint(st.Ino, st.Mode>>12); got != want {
				t.Errorf("%s: %q is listed with inode and type %s, and has %s", dir, d.name, got, want)
			}
		}
	}
}

func testDeepTree(t *testing.T, p *posixTree) {
	deepest, levels := "", 0
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		if n := strings.Count(string(*e.Path), "/"); n > levels {
			deepest, levels = string(*e.Path), n
		}
	}
	if levels < 60 {
		t.Fatalf("the deepest path has only %d levels", levels)
	}
	checkFound(t, []string{p.nasty.path(nasty) + "/" + deepest})
	// And up again.
	var top, up unix.Stat_t
	must(t, lstat(p.nasty.path(nasty), &top))
	must(t, lstat(p.nasty.path(nasty)+"/"+filepath.Dir(deepest)+strings.Repeat("/..", levels), &up))
	if top.Ino != up.Ino {
		t.Errorf("going up again leads to inode %d, want %d", up.Ino, top.Ino)
	}
}
