package export

import (
	"strings"

	"github.com/pbsfs/pbsfs/store/pxar"
)

// flagNames are the flags of chattr with the names that libarchive has for them in the
// records SCHILY.fflags of a tar.
var flagNames = [...]struct {
	attr uint32
	name string
}{
	{0x20, "sappnd"},
	{0x10, "schg"},
	{0x40, "nodump"},
	{0x80, "noatime"},
	{0x4, "compress"},
	{0x80_0000, "nocow"},
	{0x1_0000, "dirsync"},
	{0x8, "sync"},
	{0x2000_0000, "projinherit"},
}

// fflags returns the text of such a record for flags as archives store them; "" for none.
func fflags(stored uint32) string {
	attr := pxar.LinuxAttr(uint64(stored))
	var names []string
	for _, f := range flagNames {
		if attr&f.attr != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}
