package ext

import "encoding/binary"

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// Tags of entries that are about somebody with a number.
const (
	aclUser  = 0x02
	aclGroup = 0x08
)

// convertACL turns an ACL from the form on disk, in which most entries have no number, into
// the one that getxattr(2) shows, in which all have.
func convertACL(p []byte) ([]byte, bool) {
	le := binary.LittleEndian
	if len(p) < 4 || le.Uint32(p) != 1 {
		return nil, false
	}
	all := le.AppendUint32(nil, 2)
	for p = p[4:]; len(p) > 0; {
		if len(p) < 4 {
			return nil, false
		}
		all = append(all, p[:4]...) // tag and permissions
		tag := le.Uint16(p)
		p = p[4:]
		if tag != aclUser && tag != aclGroup {
			all = le.AppendUint32(all, 1<<32-1)
			continue
		}
		if len(p) < 4 {
			return nil, false
		}
		all = append(all, p[:4]...)
		p = p[4:]
	}
	return all, true
}
