package xfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

// The kernel here may not know version 4. mkfs fills it from a description; what is no
// part of that is set with xfs_db.
func TestVersion4(t *testing.T) {
	src := t.TempDir()
	imagetest.Populate(t, src, imagetest.Content{Entries: 600, Deep: 5, Big: 300 << 10, Lacks: imagetest.LackHoles | imagetest.LackSpecial | imagetest.LackRawNames | imagetest.LackXattrs | imagetest.LackACLs | imagetest.LackUnwritten})
	for name, options := range map[string][]string{
		"as mkfs makes it": {"-m", "crc=0"},
		"without types":    {"-m", "crc=0", "-n", "version=ci,ftype=0"},
		"smallest blocks":  {"-m", "crc=0", "-b", "size=512"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			protofile := filepath.Join(t.TempDir(), "description")
			if err := os.WriteFile(protofile, description(t, src), 0o600); err != nil {
				t.Fatal(err)
			}
			im := imagetest.New(t, mkfs(append(options, "-p", protofile)...))
			f, size := im.Open(t)
			fsys, err := Open(f, size)
			if err != nil {
				t.Fatal(err)
			}
			if n := compareWithSource(t, fsys, f, src); n < 900 {
				t.Errorf("%d objects compared, want 900 and more", n)
			}
			attributesOfVersion4(t, im, fsys)
			imagetest.Damage(t, f, size, open, 5)
		})
	}
}

// description writes what mkfs.xfs -p takes.
func description(t testing.TB, dir string) []byte {
	t.Helper()
	b := bytes.NewBufferString("boot 0 0\nd--755 0 0\n")
	var below func(dir string)
	below = func(dir string) {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			path := dir + "/" + e.Name()
			switch {
			case !describable(e.Name()):
			case e.IsDir():
				fmt.Fprintf(b, "%s d--755 0 0\n", e.Name())
				below(path)
				b.WriteString("$\n")
			case e.Type().IsRegular():
				fmt.Fprintf(b, "%s ---644 1 2 %s\n", e.Name(), path)
			default:
				target, err := os.Readlink(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(target) <= 1023 {
					fmt.Fprintf(b, "%s l--777 0 0 %s\n", e.Name(), target)
				}
			}
		}
	}
	below(dir)
	b.WriteString("$\n")
	return b.Bytes()
}

func describable(name string) bool { return !strings.ContainsAny(name, " \n\t") && len(name) < 250 }

// compareWithSource compares names, links and content with those of a directory, and
// returns how many objects there were.
func compareWithSource(t testing.TB, fsys *FS, r io.ReaderAt, src string) int {
	t.Helper()
	objects := 0
	type place struct {
		path   string
		number uint64
	}
	for queue := []place{{src, fsys.Root()}}; len(queue) > 0; queue = queue[1:] {
		dir := queue[0]
		got := map[string]image.Entry{}
		list, err := fsys.Entries(r, dir.number)
		if err != nil {
			t.Errorf("%s: %v", dir.path, err)
		}
		for _, e := range list {
			got[e.Name] = e
		}
		want, err := os.ReadDir(dir.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			path := dir.path + "/" + w.Name()
			e, ok := got[w.Name()]
			if found, err := fsys.Lookup(r, dir.number, w.Name()); ok && (err != nil || found != e) {
				t.Errorf("%s: Lookup = %v, %v, want %v", path, found, err, e)
			}
			delete(got, w.Name())
			switch {
			case !ok && (!describable(w.Name()) || w.Name() == "4000"):
				continue
			case !ok:
				t.Errorf("%s is missing", path)
			case w.IsDir():
				queue = append(queue, place{path, e.Number})
			default:
				sameObject(t, fsys, r, e.Number, path)
			}
			objects++
		}
		for name := range got {
			t.Errorf("%s/%s is too much", dir.path, name)
		}
	}
	return objects
}

func sameObject(t testing.TB, fsys *FS, r io.ReaderAt, number uint64, path string) {
	t.Helper()
	if want, err := os.Readlink(path); err == nil {
		if got, err := fsys.Readlink(r, number); err != nil || got != want {
			t.Errorf("%s: Readlink = %q, %v", path, got, err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(r, number)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	got := make([]byte, f.Size())
	if n, err := f.ReadAt(r, got, 0); n != len(got) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
		t.Errorf("%s: other content, %v", path, err)
	}
}

// attributesOfVersion4 sets attributes with xfs_db and looks at them.
func attributesOfVersion4(t *testing.T, im *imagetest.Image, fsys *FS) {
	f, size := im.Open(t)
	e, err := fsys.Lookup(f, fsys.Root(), "big")
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"-x", "-c", fmt.Sprintf("inode %d", e.Number)}
	want := map[string]int{}
	for i, n := range []int{1, 20, 100, 400, 3000, 20000, 65536} {
		want[fmt.Sprintf("user.value-%d", n)] = n
		command = append(command, "-c", fmt.Sprintf("attr_set -v %d value-%d", n, n))
		space := []string{"-r", "-s"}[i%2]
		want[fmt.Sprintf("%s.%d", map[string]string{"-r": "trusted", "-s": "security"}[space], n)] = n/2 + 1
		command = append(command, "-c", fmt.Sprintf("attr_set %s -v %d %d", space, n/2+1, n))
		if out, err := exec.Command("xfs_db", append(command, im.Path)...).CombinedOutput(); err != nil {
			t.Fatalf("xfs_db: %v\n%s", err, out)
		}
		command = command[:3]
		fsys, err := Open(f, size)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fsys.Xattrs(f, e.Number)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d attributes, %v, want %d", len(got), err, len(want))
		}
		for _, x := range got {
			if n, ok := want[x.Name]; !ok || len(x.Value) != n {
				t.Errorf("attribute %s of %d bytes, want %d (%v)", x.Name, len(x.Value), n, ok)
			}
		}
	}
}
