package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkSnapshotCreate writes a tree of 256 MiB into a new datastore each
// time, beside tar and zstd, which write one file. Both begin with the tree in
// the kernel's cache and end with all on stable storage.
func BenchmarkSnapshotCreate(b *testing.B) {
	for _, name := range []string{"tar", "zstd"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Skipf("nothing to compare with: %v", err)
		}
	}
	dir := scratch(b)
	tree := filepath.Join(dir, "tree")
	size := mixedTree(b, tree)
	all := []writerOf{
		pbsfsWriter("pbsfs", dir), pbsfsWriter("pbsfs-split", dir, "--format", "split"),
		zstdWriter("tar-zstd-1", dir, "-1"), zstdWriter("tar-zstd-3", dir, "-3"),
	}
	took, stored := map[string][]float64{}, map[string]int64{}
	for round := 0; b.Loop(); round++ {
		for i := range all {
			w := all[(i+round)%len(all)]
			cmd, into := w.prepare(b, tree)
			start := time.Now()
			execute(b, cmd)
			took[w.name] = append(took[w.name], time.Since(start).Seconds())
			stored[w.name] = bytesBelow(b, into)
			check(b, os.RemoveAll(into))
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, w := range all {
		b.ReportMetric(float64(size)/1e6/median(took[w.name]), w.name+"-MB/s")
		b.ReportMetric(float64(stored[w.name])/float64(size), w.name+"-stored")
	}
}

// writerOf is a way to write a tree.
type writerOf struct {
	name string
	// prepare returns a command, and the directory into which it writes.
	prepare func(b *testing.B, tree string) (cmd *exec.Cmd, into string)
}

func pbsfsWriter(name, dir string, args ...string) writerOf {
	return writerOf{name, func(b *testing.B, tree string) (*exec.Cmd, string) {
		b.Helper()
		into := filepath.Join(dir, "store")
		check(b, os.MkdirAll(filepath.Join(into, ".chunks"), 0o750))
		cmd := exec.Command(program, append([]string{"snapshot", "create", "tree.pxar:" + tree, into, "--crypt-mode", "none"}, args...)...)
		cmd.Env = append(os.Environ(), "PBSFS_CONFIG_DIR="+dir, "PBSFS_RUN_DIR="+dir)
		return cmd, into
	}}
}

func zstdWriter(name, dir, level string) writerOf {
	return writerOf{name, func(b *testing.B, tree string) (*exec.Cmd, string) {
		b.Helper()
		into := filepath.Join(dir, "tar")
		check(b, os.MkdirAll(into, 0o750))
		line := `tar -C "$1" -c . | zstd -q -T0 ` + level + ` -o "$2/a" && sync -f "$2/a"`
		return exec.Command("sh", "-c", line, "sh", tree, into), into
	}}
}

// mixedTree makes files of 4 KiB to 16 MiB: a half is text, the other one does
// not compress. It returns how long they are together.
func mixedTree(b *testing.B, tree string) (size int64) {
	b.Helper()
	words := strings.Fields("the backup of a datastore has chunks and indexes that name them by digest while locks hold")
	add := func(i, n int) {
		at := filepath.Join(tree, fmt.Sprintf("d%02d", i%50), fmt.Sprint(i))
		data := noise(uint64(i), n)
		if i%2 == 0 {
			var text strings.Builder
			for j := 0; text.Len() < n; j++ {
				fmt.Fprintf(&text, "%s %d ", words[int(data[j])%len(words)], data[(j+1)%n])
			}
			data = []byte(text.String()[:n])
		}
		check(b, os.MkdirAll(filepath.Dir(at), 0o755))
		check(b, os.WriteFile(at, data, 0o600))
		size += int64(n)
	}
	for i := range 4096 {
		add(i, 4<<10+i%16<<12)
	}
	for i := range 7 {
		add(5000+i, 16<<20)
	}
	return size
}

func bytesBelow(b *testing.B, dir string) (n int64) {
	b.Helper()
	check(b, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}
