package ext

import (
	"testing"

	"github.com/pbsfs/pbsfs/store/image/imagetest"
)

func TestDamageGivesErrorsAndNothingElse(t *testing.T) {
	for name, options := range map[string][]string{
		"ext2":        {"-t", "ext2"},
		"ext4":        {"-t", "ext4"},
		"inline data": {"-t", "ext4", "-I", "256", "-O", "inline_data,^metadata_csum"},
	} {
		t.Run(name, func(t *testing.T) {
			s := source(smallImage(t, options...))
			imagetest.Damage(t, s, int64(len(s)), open, 20)
		})
	}
}

func TestUnreadablePagesAreNeverSilent(t *testing.T) {
	s := source(smallImage(t, "-t", "ext4"))
	imagetest.Unreadable(t, s, int64(len(s)), open, 10)
}

// The input is a list of changes to an image: four bytes of offset, and what to flip there.
func FuzzOpen(f *testing.F) {
	images := []source{
		smallImage(f, "-t", "ext2"), smallImage(f, "-t", "ext4"), smallImage(f, "-t", "ext4", "-I", "256", "-O", "inline_data,^metadata_csum"),
	}
	f.Add(uint8(0), []byte{0x38, 4, 0, 0, 1})
	f.Add(uint8(1), []byte{0x00, 4, 0, 0, 1, 0, 12, 0, 0, 255})
	f.Add(uint8(2), []byte{0x00, 0x80, 0, 0, 0x80})
	f.Fuzz(func(_ *testing.T, which uint8, changes []byte) {
		s := append(source{}, images[int(which)%len(images)]...)
		for ; len(changes) >= 5; changes = changes[5:] {
			off := int(changes[0]) | int(changes[1])<<8 | int(changes[2])<<16
			s[off%len(s)] ^= changes[4]
		}
		fs, err := Open(s, int64(len(s)))
		if err != nil {
			return
		}
		imagetest.Walk(fs, s, true)
	})
}
