package locate

import (
	"os"
	"slices"
	"testing"

	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store/storetest"
)

func TestDiskKeysAreFileNames(t *testing.T) {
	for uuid, want := range map[string]string{
		"2203d019-C43C": "2203d019-c43c", "1234-ABCD": "1234-abcd", "../x": "___x", "a b\n": "a_b_", "": "",
	} {
		if got := uuidKey(uuid); got != want {
			t.Errorf("%q: %q, want %q", uuid, got, want)
		}
	}
}

// A record without users that run is one whose device nobody uses.
func TestSweepForgetsUsersThatEnded(t *testing.T) {
	host := storetest.Host(t, "")
	self, err := procfs.MarkSelf()
	if err != nil {
		t.Fatal(err)
	}
	ended := self
	ended.StartTime++ // another process that had the pid
	d, err := lockDisks(host, 0)
	if err != nil {
		t.Fatal(err)
	}
	for key, users := range map[string][]procfs.ProcessMark{"both": {self, ended}, "ended": {ended}} {
		if err := d.write(diskRecord{key: key, Users: users}); err != nil {
			t.Fatal(err)
		}
	}
	d.unlock()
	if err := Sweep(host); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.file("ended")); !os.IsNotExist(err) {
		t.Errorf("a device that nobody uses: %v", err)
	}
	if got := d.read("both").Users; !slices.Equal(got, []procfs.ProcessMark{self}) {
		t.Errorf("users %+v, want this process", got)
	}
}
