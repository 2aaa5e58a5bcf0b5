package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Whatever others do below TARGET while a restore runs, nothing outside of it changes:
// here they put links to other places where directories and files were.
func TestRestoreStaysInTarget(t *testing.T) {
	needRoot(t)
	h, dir := newHost(t), tempDir(t)
	store := bareStore(t, memoryDir(t))
	tree := subdir(t, dir, "tree")
	outside := subdir(t, dir, "outside")
	for i := range 10 {
		sub := subdir(t, tree, fmt.Sprintf("d%d", i))
		for k := range 60 {
			writeFile(t, filepath.Join(sub, fmt.Sprintf("f%d", k)), noise(uint64(i*60+k), 3000))
			if i == 0 {
				writeFile(t, filepath.Join(outside, fmt.Sprintf("f%d", k)), []byte("not yours"))
			}
		}
		must(t, os.Chmod(sub, 0o751))
	}
	must(t, os.Chmod(outside, 0o700))
	snap := h.create("tree.pxar:"+tree, store, "--id", "r")
	before := treeOf(t, outside)
	for _, how := range [][]string{{"--overwrite", "always"}, {"--overwrite", "changed", "--verify"}, nil} {
		to := filepath.Join(subdir(t, dir, "to"), "tree.pxar")
		if how != nil {
			h.run("restore", store, snap+"/tree.pxar", filepath.Dir(to)).want(t, 0)
		}
		swaps := swapping(t, to, outside, func() {
			for range 8 {
				if how == nil {
					eventually(t, "removing what was restored", func() error { return os.RemoveAll(to) })
				}
				h.run(append([]string{"restore", store, snap + "/tree.pxar", filepath.Dir(to)}, how...)...)
			}
		})
		if swaps == 0 {
			t.Error("nothing was swapped")
		}
		reportDifferences(t, fmt.Sprintf("%q: outside", how), compare(outside, before))
		must(t, os.RemoveAll(filepath.Dir(to)))
	}
}

// swapping puts symbolic links to outside where directories are, and hard links to files
// outside where files are, and puts back what was there, while fn runs. It returns how often.
func swapping(t *testing.T, to, outside string, fn func()) (swaps int) {
	t.Helper()
	done := make(chan struct{})
	var racer sync.WaitGroup
	racer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			at := filepath.Join(to, fmt.Sprintf("d%d", n%10))
			aside := at + ".aside"
			if os.Rename(at, aside) == nil {
				swaps++
				_ = os.Symlink(outside, at)
			}
			file := filepath.Join(to, fmt.Sprintf("d%d/f%d", (n+5)%10, n%60))
			if n%3 == 0 && os.Remove(file) == nil {
				_ = os.Symlink(filepath.Join(outside, "f1"), file)
			}
			_ = os.Remove(at)
			_ = os.Rename(aside, at)
		}
	})
	fn()
	close(done)
	racer.Wait()
	return swaps
}
