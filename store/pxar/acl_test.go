package pxar

import (
	"encoding/hex"
	"strings"
	"testing"
)

// none is the id of ACL entries that have none.
const none = "ffffffff"

func TestACLConversion(t *testing.T) {
	user := func(id, perm uint64) []byte { return item(itemACLUser, nums(id, perm)) }
	group := func(id, perm uint64) []byte { return item(itemACLGroup, nums(id, perm)) }
	groupObj := func(perm uint64) []byte { return item(itemACLGroupObj, nums(perm)) }
	def := func(u, g, o, m uint64) []byte { return item(itemACLDefault, nums(u, g, o, m)) }
	defUser := func(id, perm uint64) []byte { return item(itemACLDefaultUser, nums(id, perm)) }
	defGroup := func(id, perm uint64) []byte { return item(itemACLDefaultGroup, nums(id, perm)) }
	const access, deflt = "system.posix_acl_access", "system.posix_acl_default"

	for _, tc := range []struct {
		name  string
		mode  uint64
		items [][]byte
		want  map[string]string // tag, perm and id of each entry
	}{
		{"without items", 0o40755, nil, nil},
		{
			"owning group: group bits are the mask", 0o100654,
			[][]byte{groupObj(4)},
			map[string]string{access: "01000600" + none + "04000400" + none + "10000500" + none + "20000400" + none},
		},
		{
			"no owning group: group bits are both", 0o100654,
			[][]byte{user(7, 3)},
			map[string]string{access: "01000600" + none + "0200030007000000" + "04000500" + none + "10000500" + none + "20000400" + none},
		},
		{
			"named group alone", 0o100604,
			[][]byte{group(9, 1)},
			map[string]string{access: "01000600" + none + "04000000" + none + "0800010009000000" + "10000000" + none + "20000400" + none},
		},
		{
			"sorted by id, cut to 32 bits, three bits of permission", 0o100777,
			[][]byte{group(3, 0xff), user(5, 1), user(1<<32|2, 8|2), group(1, 4), groupObj(1 << 40)},
			map[string]string{access: "01000700" + none + "0200020002000000" + "0200010005000000" + "04000000" + none +
				"0800040001000000" + "0800070003000000" + "10000700" + none + "20000700" + none},
		},
		{
			"default with mask", 0o40755,
			[][]byte{def(7, 5, 1, 4)},
			map[string]string{deflt: "01000700" + none + "04000500" + none + "10000400" + none + "20000100" + none},
		},
		{
			"default without mask", 0o40755,
			[][]byte{def(7, 5, 1, absent)},
			map[string]string{deflt: "01000700" + none + "04000500" + none + "20000100" + none},
		},
		{
			"default with absent permissions", 0o40755,
			[][]byte{def(absent, absent, absent, absent)},
			map[string]string{deflt: "01000700" + none + "04000700" + none + "20000700" + none},
		},
		{
			"default, named, no mask: union", 0o40755,
			[][]byte{def(7, 1, 0, absent), defUser(8, 2), defGroup(6, 4)},
			map[string]string{deflt: "01000700" + none + "0200020008000000" + "04000100" + none + "0800040006000000" + "10000700" + none + "20000000" + none},
		},
		{
			"default, named, mask kept", 0o40755,
			[][]byte{def(7, 7, 0, 1), defUser(8, 7)},
			map[string]string{deflt: "01000700" + none + "0200070008000000" + "04000700" + none + "10000100" + none + "20000000" + none},
		},
		{"named defaults without default", 0o40755, [][]byte{defUser(8, 2), defGroup(6, 4)}, nil},
		{"default of a file", 0o100644, [][]byte{def(7, 5, 1, 4)}, nil},
		{
			"both", 0o40750,
			[][]byte{groupObj(5), def(7, 0, 0, absent)},
			map[string]string{
				access: "01000700" + none + "04000500" + none + "10000500" + none + "20000000" + none,
				deflt:  "01000700" + none + "04000000" + none + "20000000" + none,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &node{name: "x", mode: tc.mode, attrs: tc.items}
			e := mustGet(t, (&encoder{}).archive(dir("", n)), "x")
			got := map[string]string{}
			for _, a := range e.Attributes() {
				got[a.Name] = hex.EncodeToString(a.Value)
			}
			for name, want := range tc.want {
				if want = "02000000" + want; got[name] != want {
					t.Errorf("%s\n got %s\nwant %s", name, got[name], want)
				}
				delete(got, name)
			}
			for name, value := range got {
				t.Errorf("%s is there with %s", name, value)
			}
		})
	}
}

func TestXattrs(t *testing.T) {
	longest := "user." + strings.Repeat("n", 250)
	big := strings.Repeat("v", 65536)
	n := file("x", "data")
	n.attrs = [][]byte{
		item(itemFCaps, []byte("caps")), xattrItem("user.a", "1"), xattrItem("user.a", "2"), xattrItem("user.empty", ""),
		xattrItem("user.", "x"), xattrItem("", "x"), xattrItem("security.selinux", "x"), xattrItem("security.capability", "x"),
		xattrItem("system.posix_acl_access", "x"), xattrItem("security.NTACL", "nt\x00acl"), xattrItem("security.NTACLx", "x"),
		xattrItem("trusted.t", "t"), xattrItem(longest, big[:100]), xattrItem(longest+"n", "x"), xattrItem("User.a", "x"),
		xattrItem("user.big", big), item(itemQuotaProject, nums(1<<32|77)),
	}
	for i := range 12 {
		n.attrs = append(n.attrs, xattrItem("user.big"+string(rune('a'+i)), big))
	}
	e := mustGet(t, (&encoder{}).archive(dir("", n)), "x")
	want := []Attribute{
		{"user.a", []byte("1")},
		{"user.empty", []byte{}},
		{"security.NTACL", []byte("nt\x00acl")},
		{"trusted.t", []byte("t")},
		{longest, []byte(big[:100])},
		{"user.big", []byte(big)},
	}
	for i := range 12 {
		want = append(want, Attribute{"user.big" + string(rune('a'+i)), []byte(big)})
	}
	want = append(want, Attribute{"security.capability", []byte("caps")})
	got := e.Attributes()
	if len(got) != len(want) {
		t.Fatalf("%d attributes, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Name != want[i].Name || string(got[i].Value) != string(want[i].Value) {
			t.Errorf("attribute %d is %.30q = %.20q, want %.30q = %.20q", i, got[i].Name, got[i].Value, want[i].Name, want[i].Value)
		}
	}
	if e.ProjectID != 77 {
		t.Errorf("project %d, want 77", e.ProjectID)
	}
}
