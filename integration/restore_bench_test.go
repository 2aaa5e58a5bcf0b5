package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// restorer is a way to get something out of a datastore.
type restorer struct {
	name    string
	mounted bool                                     // it needs a mount, which is new each time
	command func(h *host, from, to string) *exec.Cmd // from is below a mount point or the datastore
}

// BenchmarkRestore restores a tree of 20,000 files and more, and an image of 1 GiB: with
// restore, and with cp and tar out of a mount. For the image, "decode" reads it without
// writing it, and "write" copies a file of the same bytes that is in the kernel's cache:
// nothing can be faster than the slower of them. What cp needs in proportion to restore is
// x-cp. All end with everything on stable storage.
func BenchmarkRestore(b *testing.B) {
	dir := scratch(b)
	tree, image, store := filepath.Join(dir, "tree"), filepath.Join(dir, "image"), filepath.Join(dir, "store")
	for _, d := range []string{tree, filepath.Join(store, ".chunks"), filepath.Join(dir, "config"), filepath.Join(dir, "run")} {
		check(b, os.MkdirAll(d, 0o755))
	}
	restoredTree(b, tree)
	restoredImage(b, image)
	h := benchHost(dir)
	snap, err := output(h.command("snapshot", "create", "tree.pxar:"+tree, "disk.img:"+image, store, "--id", "r"))
	check(b, err)
	at := string(snap[:len(snap)-1])
	shell := func(line string) func(h *host, from, to string) *exec.Cmd {
		return func(_ *host, from, to string) *exec.Cmd { return exec.Command("sh", "-c", line, "sh", from, to) }
	}
	b.Run("tree", func(b *testing.B) {
		benchRestore(b, dir, store, filepath.Join(at, "tree.pxar"), true, []restorer{
			{"restore", false, func(h *host, from, to string) *exec.Cmd { return h.command("restore", store, from, to) }},
			{"cp", true, shell(`mkdir "$2" && cp -a "$1" "$2"`)},
			{"tar", true, shell(`mkdir "$2" && tar -C "$1" --xattrs --acls -cf - . | tar -C "$2" --xattrs --acls -p -xf -`)},
		})
	})
	b.Run("image", func(b *testing.B) {
		benchRestore(b, dir, store, filepath.Join(at, "disk.img"), false, []restorer{
			{"restore", false, func(h *host, from, to string) *exec.Cmd { return h.command("restore", store, from, to) }},
			{"cp", true, shell(`cp "$1" "$2"`)},
			{"decode", false, func(h *host, from, _ string) *exec.Cmd { return quiet(h.command("cat", store, from)) }},
			{"write", false, func(_ *host, _, to string) *exec.Cmd { return exec.Command("cp", "--reflink=never", image, to) }},
		})
	})
}

// syncDisk waits until the file system of a directory is on stable storage.
func syncDisk(b *testing.B, dir string) {
	b.Helper()
	f, err := os.Open(dir)
	check(b, err)
	check(b, unix.Syncfs(int(f.Fd())))
	check(b, f.Close())
}

// quiet has what a command writes go nowhere, through a pipe.
func quiet(cmd *exec.Cmd) *exec.Cmd {
	sh := exec.Command("sh", append([]string{"-c", `"$@" | cat >/dev/null`, "sh"}, cmd.Args...)...)
	sh.Env = cmd.Env
	return sh
}

// benchRestore lets all take their turns.
func benchRestore(b *testing.B, dir, store, from string, keep bool, all []restorer) {
	b.Helper()
	h, took := benchHost(dir), make(map[string][]float64)
	// What is kept is removed at the end: ext4 takes long to make files for some seconds
	// after others were removed. What is large and not kept leaves its memory to the next
	// one: a virtual machine takes long to get more.
	into := filepath.Join(dir, "into")
	check(b, os.MkdirAll(into, 0o755))
	b.Cleanup(func() { check(b, os.RemoveAll(into)) })
	for round := 0; b.Loop(); round++ {
		for i := range all {
			r := all[(i+round)%len(all)]
			to := filepath.Join(into, fmt.Sprint(round, r.name))
			path, end := from, func() {}
			if r.mounted {
				m := mountFor(b, dir, store)
				path, end = filepath.Join(m.path, from), m.end
			}
			unix.Sync()
			cmd := r.command(h, path, to)
			start := time.Now()
			execute(b, cmd)
			syncDisk(b, into)
			took[r.name] = append(took[r.name], time.Since(start).Seconds())
			end()
			if !keep {
				check(b, os.RemoveAll(to))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	first := median(took[all[0].name])
	for i, r := range all {
		m := median(took[r.name])
		b.ReportMetric(m, r.name+"-s")
		if i > 0 {
			b.ReportMetric(m/first, "x-"+r.name)
		}
	}
}

// restoredTree makes 20,000 files of up to 32 KiB, and some larger ones, with other owners
// and some attributes.
func restoredTree(b *testing.B, tree string) {
	b.Helper()
	for d := range 400 {
		sub := filepath.Join(tree, fmt.Sprintf("a%02d", d%20), fmt.Sprintf("b%03d", d))
		check(b, os.MkdirAll(sub, 0o755))
		for f := range 50 {
			file := filepath.Join(sub, fmt.Sprintf("file%03d", f))
			n := (d*50 + f) * 7919 % (32 << 10)
			if f == 49 && d%20 == 0 {
				n = 8 << 20
			}
			check(b, os.WriteFile(file, noise(uint64(d*50+f), n), 0o640))
			check(b, os.Chown(file, 1000, 1000))
			if f%10 == 0 {
				check(b, unix.Setxattr(file, "user.origin", []byte(file), 0))
			}
		}
		check(b, os.Symlink("file000", filepath.Join(sub, "link")))
	}
}

// restoredImage makes an image of 1 GiB: of each 16 MiB a half does not compress, a quarter
// is text, and a quarter zeros.
func restoredImage(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	check(b, err)
	text := make([]byte, 4<<20)
	for i := range text {
		text[i] = "the backup of a datastore has chunks "[i%37]
	}
	for off := int64(0); off < 1<<30; off += 16 << 20 {
		_, err := f.WriteAt(noise(uint64(off), 8<<20), off)
		check(b, err)
		text[off>>24] = byte(off >> 24)
		_, err = f.WriteAt(text, off+8<<20)
		check(b, err)
	}
	check(b, f.Truncate(1<<30))
	check(b, f.Close())
}
