package xfs

import (
	"encoding/binary"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// aclNames are the attributes with ACLs, and under which names the kernel gives them. It
// lists them as attributes of trusted.*, too.
var aclNames = map[string]string{
	"SGI_ACL_FILE":    "system.posix_acl_access",
	"SGI_ACL_DEFAULT": "system.posix_acl_default",
}

// Sizes of entries of an ACL: on the disk, and as the kernel gives them.
const (
	aclEntry       = 12
	kernelACLEntry = 8
)

// kernelACL converts an ACL: a count and entries of tag, id, permissions, all big-endian,
// to a version and entries of tag, permissions, id, all little-endian.
func kernelACL(b []byte) ([]byte, error) {
	if len(b) < 4 || (len(b)-4)%aclEntry != 0 || uint64(be.Uint32(b)) != uint64((len(b)-4)/aclEntry) {
		return nil, corrupt.New("ACL of %d bytes", len(b))
	}
	const version, user, group, noID = 2, 0x02, 0x08, 1<<32 - 1
	out := make([]byte, 0, 4+(len(b)-4)/aclEntry*kernelACLEntry)
	out = binary.LittleEndian.AppendUint32(out, version)
	for b = b[4:]; len(b) > 0; b = b[aclEntry:] {
		tag, id := be.Uint32(b), uint32(noID)
		switch tag {
		case user, group:
			id = be.Uint32(b[4:])
		case 0x01, 0x04, 0x10, 0x20: // owner, owning group, mask, others
		default:
			return nil, corrupt.New("ACL with an entry of kind %#x", tag)
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(tag))
		out = binary.LittleEndian.AppendUint16(out, be.Uint16(b[8:]))
		out = binary.LittleEndian.AppendUint32(out, id)
	}
	return out, nil
}
