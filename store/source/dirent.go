package source

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The offsets of the fields of a directory entry, as getdents64(2) returns it, in the
// machine's byte order.
const (
	direntLength = 16 // of the entry, 16 bits
	direntName   = 19 // ended by NUL
)

// appendNames appends the names in a result of getdents64(2), except those of the
// directory itself and its parent. Unlike the parsers of most libraries it accepts
// entries with the inode number 0: some file systems in user space have no numbers, and
// the kernel returns no entry that does not exist.
func appendNames(names []string, buf []byte) []string {
	for len(buf) >= direntName {
		n := int(binary.NativeEndian.Uint16(buf[direntLength:]))
		if n < direntName || n > len(buf) {
			break
		}
		name, _, _ := bytes.Cut(buf[direntName:n], []byte{0})
		if s := string(name); s != "" && s != "." && s != ".." {
			names = append(names, s)
		}
		buf = buf[n:]
	}
	return names
}

// readNames reads some of the names in a directory. If n is 0, there are no more.
func readNames(fd int, buf []byte, names []string) (more []string, n int, err error) {
	n, err = retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
	if n > 0 {
		names = appendNames(names, buf[:n])
	}
	return names, max(n, 0), err
}
