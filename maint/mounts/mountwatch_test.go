package mounts

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Each change is seen, also when nobody looks just then.
func TestEachChangeOfTheMountsIsSeen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	w, err := WatchMounts()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	for _, args := range [][]string{{"mount", "--bind", dir, dir}, {"umount", dir}} {
		for changed := true; changed; { // what others mount and unmount is none of this
			if changed, err = w.Wait(20 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		time.Sleep(50 * time.Millisecond) // for who else may look first
		if changed, err := w.Wait(time.Minute); !changed || err != nil {
			t.Errorf("%q is not seen: %v", args, err)
		}
	}
}
