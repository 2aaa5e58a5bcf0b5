package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// diskEntries is how many entries the directory in the image has, and diskBig how many MiB
// its large file.
const (
	diskEntries = 20_000
	diskBig     = 100
)

// BenchmarkDiskImage looks into a disk image: as files of the mount, and by mounting the
// image of the same mount over a loop device, with the kernel's caches empty. x-loop is the
// former's time in proportion to the latter's. It lists 20,000 entries with the attributes
// that find asks for, and with those of ls -l, which wants two extended attributes of each
// file as well, and reads a file of 100 MiB, beside reading the same range of the image.
func BenchmarkDiskImage(b *testing.B) {
	needDropCaches(b)
	dir := scratch(b)
	store, snap, at := manyInImage(b, dir)
	files := subject{"files", func(b *testing.B) *served {
		b.Helper()
		m := mountFor(b, dir, store)
		m.path = filepath.Join(m.path, snap, "drive-scsi0.img.d/raw")
		return m
	}}
	loop := subject{"loop", func(b *testing.B) *served {
		b.Helper()
		m := mountFor(b, dir, store)
		return loopMount(b, dir, m, filepath.Join(m.path, snap, "drive-scsi0.img"))
	}}
	for name, list := range map[string][]string{"find": {"find", "-printf", "%s %m %U %T@\n"}, "ls": {"ls", "-l"}} {
		b.Run(name, func(b *testing.B) {
			alternate(b, []subject{files, loop}, "", func(s subject) (time.Duration, int64) {
				m := s.mount(b)
				defer m.end()
				return timed(b, func(dir string) (int64, error) { return countLines(filepath.Join(dir, "many"), list) }, m.path)
			})
		})
	}
	b.Run("read", func(b *testing.B) {
		image := subject{"image", func(b *testing.B) *served {
			b.Helper()
			m := mountFor(b, dir, store)
			m.path = filepath.Join(m.path, snap)
			return m
		}}
		alternate(b, []subject{files, image}, "", func(s subject) (time.Duration, int64) {
			m := s.mount(b)
			defer m.end()
			file, skip := filepath.Join(m.path, "big"), int64(0)
			if s.name == "image" {
				file, skip = filepath.Join(m.path, "drive-scsi0.img"), at
			}
			return timed(b, func(string) (int64, error) {
				_, err := output(exec.Command("dd", "if="+file, "of=/dev/null", "bs=1M", "iflag=skip_bytes", "count="+strconv.Itoa(diskBig), fmt.Sprintf("skip=%d", skip), "status=none"))
				return diskBig, err
			}, m.path)
		})
	})
}

// countLines runs a command in a directory and counts the lines that it writes.
func countLines(dir string, command []string) (int64, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	text, err := output(cmd)
	return int64(bytes.Count(text, []byte("\n"))), err
}

// manyInImage makes a datastore with the image of an ext4 that has a directory of many
// files, and a large one; at is where the large one lies in the image.
func manyInImage(b *testing.B, dir string) (store, snap string, at int64) {
	b.Helper()
	h, image, on := benchHost(dir), filepath.Join(dir, "image"), filepath.Join(dir, "on")
	store = filepath.Join(dir, "store")
	for _, d := range []string{on, filepath.Join(store, ".chunks"), filepath.Join(dir, "config"), filepath.Join(dir, "run")} {
		check(b, os.MkdirAll(d, 0o755))
	}
	check(b, os.WriteFile(image, nil, 0o600))
	check(b, os.Truncate(image, 400<<20))
	execute(b, exec.Command("mkfs.ext4", "-q", "-F", "-N", "40000", image))
	execute(b, exec.Command("mount", "-o", "loop", image, on))
	check(b, os.WriteFile(filepath.Join(on, "big"), noise(1, diskBig<<20), 0o644))
	check(b, os.Mkdir(filepath.Join(on, "many"), 0o755))
	for i := range diskEntries {
		check(b, os.WriteFile(filepath.Join(on, "many", fmt.Sprintf("a file with the number %05d", i)), []byte(strconv.Itoa(i)), 0o644))
	}
	execute(b, exec.Command("sync", "-f", on))
	text, err := output(exec.Command("filefrag", "-v", filepath.Join(on, "big")))
	check(b, err)
	for line := range strings.Lines(string(text)) {
		var n, first, last, block int64
		if got, _ := fmt.Sscanf(strings.TrimSpace(line), "%d: %d.. %d: %d..", &n, &first, &last, &block); got == 4 && n == 0 {
			at = block * 4096
		}
	}
	execute(b, exec.Command("umount", on))
	execute(b, h.command("snapshot", "create", "drive-scsi0.img:"+image, store, "--type", "vm", "--id", "100", "--crypt-mode", "none"))
	execute(b, h.command("datastore", "add", tank, store))
	made, err := filepath.Glob(filepath.Join(store, "vm/100/2*"))
	check(b, err)
	if len(made) != 1 || at == 0 {
		b.Fatalf("got the snapshots %q, and the large file at %d", made, at)
	}
	return store, filepath.Join("vm/100", filepath.Base(made[0])), at
}

// loopMount mounts the image of a mount over a loop device, until end.
func loopMount(b *testing.B, dir string, m *served, image string) *served {
	b.Helper()
	on := filepath.Join(dir, "on")
	start := time.Now()
	execute(b, exec.Command("mount", "-o", "loop,ro,noload", image, on))
	return newServed(b, on, time.Since(start), func() error {
		if err := tryExecute(exec.Command("umount", on)); err != nil {
			return err
		}
		m.end()
		return nil
	})
}
