package imagetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// setXattr sets an attribute; one for which the format has no room is left out.
func (w *writer) setXattr(path, name string, value []byte) bool {
	err := unix.Lsetxattr(path, name, value, 0)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE) {
		w.Logf("no %s of %d bytes: %v", name, len(value), err)
		return false
	}
	w.must(err)
	return true
}

func (w *writer) xattrs() {
	if w.lacks(LackXattrs) {
		return
	}
	w.setXattr(w.file("xattr/small", nil), "user.small", []byte("v"))
	p := w.file("xattr/medium", nil)
	w.setXattr(p, "user.medium", Noise(60, 1))
	w.setXattr(p, "user.empty", nil)
	w.setXattr(w.file("xattr/large", nil), "user.large", Noise(1800, 2))
	w.setXattr(w.file("xattr/larger", nil), "user.larger", Noise(3500, 3))
	w.setXattr(w.file("xattr/largest", nil), "user.largest", Noise(60000, 4))
	p = w.file("xattr/many", nil)
	for i := range 60 {
		if !w.setXattr(p, fmt.Sprintf("user.many-%03d", i), []byte(strings.Repeat(fmt.Sprint(i), 5))) {
			break
		}
	}
	p = w.file("xattr/kinds", []byte("content"))
	w.setXattr(p, "trusted.overlay.opaque", []byte("y"))
	w.setXattr(p, "security.other", []byte("system_u:object_r:etc_t:s0\x00"))
	w.setXattr(p, "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	w.must(os.MkdirAll(w.path("xattr/dir"), 0o755))
	w.setXattr(w.path("xattr/dir"), "user.dir", []byte("of a directory"))
	if !w.lacks(LackSymlinks) {
		w.must(os.Symlink("small", w.path("xattr/link")))
		w.setXattr(w.path("xattr/link"), "trusted.link", []byte("of a link"))
	}
}

// acl is an ACL in the kernel's form: tag, permissions, id.
func acl(entries ...[3]uint32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		p = binary.LittleEndian.AppendUint16(p, uint16(e[0]))
		p = binary.LittleEndian.AppendUint16(p, uint16(e[1]))
		p = binary.LittleEndian.AppendUint32(p, e[2])
	}
	return p
}

func (w *writer) acls() {
	if w.lacks(LackACLs) {
		return
	}
	const (
		userObj, user, groupObj, group, mask, other = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
		none                                        = 1<<32 - 1
	)
	value := acl(
		[3]uint32{userObj, 6, none}, [3]uint32{user, 7, 1000}, [3]uint32{user, 4, 70000}, [3]uint32{groupObj, 4, none},
		[3]uint32{group, 4, 1001}, [3]uint32{mask, 7, none}, [3]uint32{other, 4, none})
	w.setXattr(w.file("acl/file", nil), "system.posix_acl_access", value)
	w.must(os.MkdirAll(w.path("acl/dir"), 0o755))
	w.setXattr(w.path("acl/dir"), "system.posix_acl_default", value)
	w.file("acl/dir/inherits", []byte("i"))
	w.must(os.Mkdir(w.path("acl/dir/dir"), 0o755))
}
