package mounts

import (
	"fmt"
	"os"
	"strconv"
)

// SetReadAhead sets how far the kernel reads ahead, in KiB, on the mounted file system
// with that device number. Only root may do so.
func SetReadAhead(major, minor uint32, kib int) error {
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", major, minor)
	return os.WriteFile(path, strconv.AppendInt(nil, int64(kib), 10), 0)
}
