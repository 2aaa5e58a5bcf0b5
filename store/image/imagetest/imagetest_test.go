package imagetest

import (
	"os"
	"testing"
)

// Whatever the kernel here can mount is filled, copied while mounted, and mounted again.
func TestImagesAreMadeAndFilled(t *testing.T) {
	for name, f := range map[string]Format{
		"ext4":    {Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q"}, Size: 64 << 20},
		"nothing": {Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q"}, Size: 64 << 20, Lacks: 1<<13 - 1},
		"xfs":     {Type: "xfs", Mkfs: []string{"mkfs.xfs", "-q"}, Size: 320 << 20},
		"btrfs":   {Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, Size: 256 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			im := New(t, f)
			im.Update(t, func(dir string) {
				Populate(t, dir, Content{Lacks: f.Lacks, Entries: 300})
			})
			c := im.Dirty(t, func(dir string) {
				if err := os.Mkdir(dir+"/new", 0o755); err != nil {
					t.Fatal(err)
				}
				Sync(t, dir)
			})
			c.View(t, func(dir string) {
				if _, err := os.Stat(dir + "/new"); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(dir + "/hard/b"); (err == nil) != (f.Lacks&LackHardlinks == 0) {
					t.Error(err)
				}
			})
		})
	}
}
