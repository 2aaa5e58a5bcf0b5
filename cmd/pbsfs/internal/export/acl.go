package export

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// aclKeys are the keys of the records for ACLs as text, by the attribute that has them.
var aclKeys = map[string]string{
	"system.posix_acl_access":  "SCHILY.acl.access",
	"system.posix_acl_default": "SCHILY.acl.default",
}

// aclTags are the words for the tags of an ACL. Those of named users and groups have an ID.
var aclTags = map[uint16]string{1: "user", 2: "user", 4: "group", 8: "group", 0x10: "mask", 0x20: "other"}

// aclText writes the value of an ACL's attribute as acl_from_text reads it.
func aclText(value []byte) string {
	const header, entry = 4, 8
	var out []string
	for b := value[min(header, len(value)):]; len(b) >= entry; b = b[entry:] {
		tag, perm := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		id := ""
		if tag == 2 || tag == 8 {
			id = fmt.Sprint(binary.LittleEndian.Uint32(b[4:]))
		}
		rwx := []byte("rwx")
		for i := range rwx {
			if perm&(4>>i) == 0 {
				rwx[i] = '-'
			}
		}
		out = append(out, aclTags[tag]+":"+id+":"+string(rwx))
	}
	return strings.Join(out, ",")
}
