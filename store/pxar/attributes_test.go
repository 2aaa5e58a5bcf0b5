package pxar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// aclHex returns the value of an ACL from its entries in hex.
func aclHex(t testing.TB, entries string) []byte {
	t.Helper()
	return unhex(t, "02000000"+entries)
}

const (
	userObj7  = "01000700" + none
	groupObj5 = "04000500" + none
	groupObj4 = "04000400" + none
	mask5     = "10000500" + none
	other0    = "20000000" + none
	user1000  = "02000600" + "e8030000"
	user2000  = "02000100" + "d0070000"
	group100  = "08000300" + "64000000"
)

func TestSetAccessACL(t *testing.T) {
	five := func(v uint64) *uint64 { return &v }
	for what, tt := range map[string]struct {
		entries string
		want    *acl
	}{
		"nothing":               {"", nil},
		"what the mode says":    {userObj7 + groupObj5 + other0, nil},
		"mask":                  {userObj7 + groupObj4 + mask5 + other0, &acl{groupObj: five(4)}},
		"named user":            {userObj7 + user1000 + groupObj4 + mask5 + other0, &acl{users: []aclEntry{{1000, 6}}, groupObj: five(4)}},
		"named, in other order": {other0 + mask5 + group100 + user2000 + groupObj4 + user1000 + userObj7, &acl{users: []aclEntry{{1000, 6}, {2000, 1}}, groups: []aclEntry{{100, 3}}, groupObj: five(4)}},
	} {
		m := Metadata{Mode: TypeRegular | 0o750}
		if err := m.SetAttribute("system.posix_acl_access", aclHex(t, tt.entries)); err != nil || !reflect.DeepEqual(m.acl, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", what, m.acl, err, tt.want)
		}
	}
}

func TestSetDefaultACL(t *testing.T) {
	for what, tt := range map[string]struct {
		entries string
		want    *acl
	}{
		"nothing":    {"", nil},
		"no mask":    {userObj7 + groupObj5 + other0, &acl{def: &defaultACL{7, 5, 0, absent}}},
		"mask":       {userObj7 + groupObj4 + mask5 + other0, &acl{def: &defaultACL{7, 4, 0, 5}}},
		"named user": {userObj7 + user1000 + groupObj4 + mask5 + other0, &acl{defaultUsers: []aclEntry{{1000, 6}}, def: &defaultACL{7, 4, 0, 5}}},
	} {
		m := Metadata{Mode: TypeDir | 0o750}
		if err := m.SetAttribute("system.posix_acl_default", aclHex(t, tt.entries)); err != nil || !reflect.DeepEqual(m.acl, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", what, m.acl, err, tt.want)
		}
	}
}

func TestACLsAreReplacedOneByOne(t *testing.T) {
	m := Metadata{Mode: TypeDir | 0o750}
	set := func(name, entries string) {
		t.Helper()
		if err := m.SetAttribute(name, aclHex(t, entries)); err != nil {
			t.Fatal(err)
		}
	}
	set(attrAccessACL, userObj7+user1000+groupObj4+mask5+other0)
	set(attrDefaultACL, userObj7+groupObj5+other0)
	if got := m.Attributes(); len(got) != 2 {
		t.Errorf("attributes %v, want both ACLs", got)
	}
	set(attrAccessACL, "")
	if got := m.Attributes(); len(got) != 1 || got[0].Name != attrDefaultACL {
		t.Errorf("attributes %v, want the default ACL", got)
	}
	set(attrDefaultACL, "")
	if m.acl != nil {
		t.Errorf("ACL is left: %+v", m.acl)
	}
}

func TestSetAttributeRefuses(t *testing.T) {
	bad := func(entries string) []byte { return aclHex(t, entries) }
	many := userObj7 + groupObj4 + mask5 + other0
	for i := range maxACL + 1 {
		many += "02000700" + hex.EncodeToString([]byte{byte(i), byte(i >> 8), 0, 0})
	}
	for what, a := range map[string]Attribute{
		"no name":               {"", nil},
		"name of another space": {"security.selinux", nil},
		"no name in its space":  {"user.", nil},
		"longer name":           {"user." + strings.Repeat("n", 251), nil},
		"long value":            {"user.a", make([]byte, maxXattr-6)},
		"long capabilities":     {attrFCaps, make([]byte, maxXattr+1)},
		"short ACL":             {attrAccessACL, []byte{2, 0, 0}},
		"no ACL":                {attrAccessACL, nil},
		"old ACL":               {attrAccessACL, []byte{1, 0, 0, 0}},
		"cut ACL":               {attrAccessACL, bad(userObj7)[:11]},
		"ACL without owner":     {attrAccessACL, bad(groupObj5 + other0)},
		"ACL without group":     {attrDefaultACL, bad(userObj7 + other0)},
		"ACL without others":    {attrDefaultACL, bad(userObj7 + groupObj5)},
		"named without mask":    {attrAccessACL, bad(userObj7 + user1000 + groupObj5 + other0)},
		"owner twice":           {attrAccessACL, bad(userObj7 + userObj7 + groupObj5 + other0)},
		"mask twice":            {attrAccessACL, bad(userObj7 + groupObj5 + mask5 + mask5 + other0)},
		"user twice":            {attrAccessACL, bad(userObj7 + user1000 + user1000 + groupObj5 + mask5 + other0)},
		"user without id":       {attrAccessACL, bad(userObj7 + "02000700" + none + groupObj5 + mask5 + other0)},
		"unknown tag":           {attrAccessACL, bad(userObj7 + groupObj5 + "40000700" + none + other0)},
		"permissions above rwx": {attrAccessACL, bad("01000800" + none + groupObj5 + other0)},
		"too many entries":      {attrAccessACL, bad(many)},
	} {
		m := Metadata{Mode: TypeDir | 0o755}
		if err := m.SetAttribute(a.Name, a.Value); !errors.Is(err, ErrEntry) || !reflect.DeepEqual(m, Metadata{Mode: TypeDir | 0o755}) {
			t.Errorf("%s: %v, metadata %+v, want ErrEntry and no change", what, err, m)
		}
	}
	var m Metadata
	for i := range maxXattrs {
		if err := m.SetAttribute("user."+strconv.Itoa(i), nil); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := m.SetAttribute("user.more", nil); !errors.Is(err, ErrEntry) {
		t.Errorf("attribute %d: %v, want ErrEntry", maxXattrs+1, err)
	}
	m = Metadata{}
	for i := range 64 {
		if err := m.SetAttribute("user."+string(rune('A'+i)), make([]byte, 65500)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := m.SetAttribute("user.more", make([]byte, 65500)); !errors.Is(err, ErrEntry) {
		t.Errorf("more than %d bytes: %v, want ErrEntry", maxXattrBytes, err)
	}
}

func TestSetAttributeReplaces(t *testing.T) {
	var m Metadata
	for _, a := range []Attribute{
		{"user.a", []byte("1")}, {"user.b", nil}, {attrFCaps, nil}, {"security.NTACL", []byte("x")}, {"trusted.t", []byte("y")},
	} {
		if !StoresAttribute(a.Name) {
			t.Errorf("StoresAttribute(%s) is false", a.Name)
		}
		if err := m.SetAttribute(a.Name, a.Value); err != nil {
			t.Fatal(err)
		}
	}
	before := m.Attributes()
	if err := errors.Join(m.SetAttribute("user.a", []byte("2")), m.SetAttribute(attrFCaps, []byte("caps"))); err != nil {
		t.Fatal(err)
	}
	if string(before[0].Value) != "1" || m.fcaps == nil {
		t.Errorf("attributes that were returned changed: %v", before)
	}
	got := m.Attributes()
	want := []Attribute{
		{"user.a", []byte("2")}, {"user.b", nil}, {"security.NTACL", []byte("x")}, {"trusted.t", []byte("y")}, {attrFCaps, []byte("caps")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("attributes %q, want %q", got, want)
	}
	if StoresAttribute("security.selinux") || StoresAttribute("system.nfs4_acl") || StoresAttribute("") {
		t.Error("StoresAttribute of what no archive stores is true")
	}
}

// copyOf returns metadata made from what m shows.
func copyOf(t testing.TB, m *Metadata) *Metadata {
	t.Helper()
	c := &Metadata{Mode: m.Mode, UID: m.UID, GID: m.GID, ProjectID: m.ProjectID, Flags: m.Flags, Mtime: m.Mtime}
	for _, a := range m.Attributes() {
		if err := c.SetAttribute(a.Name, bytes.Clone(a.Value)); err != nil {
			t.Errorf("SetAttribute(%s, %x): %v", a.Name, a.Value, err)
		}
	}
	return c
}

// randomMetadata returns metadata with attributes of all sorts.
func randomMetadata(t testing.TB, rng *rand.Rand, typ uint32) *Metadata {
	m := &Metadata{
		Mode: typ | rng.Uint32N(0o10000), UID: rng.Uint32(), GID: rng.Uint32(), ProjectID: rng.Uint32() * rng.Uint32N(2),
		Flags: rng.Uint64(), Mtime: Timestamp{int64(rng.Uint64()) >> rng.IntN(64), rng.Uint32N(1e9)},
	}
	set := func(name string, value []byte) {
		if err := m.SetAttribute(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for range rng.IntN(4) {
		set("user."+string(rune('a'+rng.IntN(26))), []byte(strings.Repeat("v\x00", rng.IntN(1000))))
	}
	if rng.IntN(3) == 0 {
		set(attrFCaps, []byte(strings.Repeat("c", rng.IntN(24))))
	}
	if rng.IntN(2) == 0 {
		set(attrAccessACL, randomACL(rng))
	}
	if typ == TypeDir && rng.IntN(2) == 0 {
		set(attrDefaultACL, randomACL(rng))
	}
	return m
}

func randomACL(rng *rand.Rand) []byte {
	list := func() (out []aclEntry) {
		for i := range rng.IntN(4) {
			out = append(out, aclEntry{uint64(1000*i) + rng.Uint64N(1000), rng.Uint64N(8)})
		}
		return out
	}
	users, groups := list(), list()
	var mask *uint64
	if v := rng.Uint64N(8); len(users)+len(groups) > 0 || v < 4 {
		mask = &v
	}
	return aclValue(rng.Uint64N(8), rng.Uint64N(8), rng.Uint64N(8), mask, users, groups)
}

func TestAttributesUndoesSetAttribute(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 2000 {
		m := randomMetadata(t, rng, TypeDir)
		if got, want := copyOf(t, m).Attributes(), m.Attributes(); !reflect.DeepEqual(got, want) {
			t.Fatalf("attributes %q, want %q", got, want)
		}
	}
}

func FuzzSetACL(f *testing.F) {
	f.Add(aclHex(f, userObj7+user1000+user2000+groupObj4+group100+mask5+other0), true)
	f.Add(aclHex(f, userObj7+groupObj4+other0), false)
	f.Add(aclHex(f, ""), true)
	f.Add([]byte{2, 0, 0}, false)
	f.Fuzz(func(t *testing.T, value []byte, access bool) {
		name := attrDefaultACL
		if access {
			name = attrAccessACL
		}
		m := Metadata{Mode: TypeDir | 0o754}
		if err := m.SetAttribute(name, value); err != nil {
			if !errors.Is(err, ErrEntry) || m.acl != nil {
				t.Fatalf("error %v, ACL %+v", err, m.acl)
			}
			return
		}
		attrs := m.Attributes()
		if len(attrs) > 1 || !access && len(attrs) == 1 && len(attrs[0].Value) != len(value) {
			t.Fatalf("%x became %x", value, attrs)
		}
		again := copyOf(t, &m)
		if !reflect.DeepEqual(again.Attributes(), attrs) {
			t.Fatalf("%x became %x, then %x", value, attrs, again.Attributes())
		}
		// What is stored can be read again.
		var buf bytes.Buffer
		e, err := NewEncoder(&buf, &m)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := mustGet(t, buf.Bytes(), ""); !reflect.DeepEqual(got.Attributes(), attrs) {
			t.Fatalf("%x became %x, read as %x", value, attrs, got.Attributes())
		}
	})
}

// Reference "pxar", section 8.
func TestFlags(t *testing.T) {
	const all = 0x20 | 0x80 | 0x4 | 0x800000 | 0x40 | 0x10000 | 0x10 | 0x8 | 0x400 | 0x20000000
	if got := LinuxFlags(all); got != 0x3ff0000 {
		t.Errorf("LinuxFlags(%#x) = %#x, want all ten", uint32(all), got)
	}
	if got := LinuxFlags(^uint32(all)); got != 0 {
		t.Errorf("LinuxFlags of what is not stored = %#x", got)
	}
	for attr, want := range map[uint32]uint64{0x10: 0x400000, 0x20: 0x10000, 0x800000: 0x80000, 0x20000000: 0x2000000, 0x80000: 0} {
		if got := LinuxFlags(attr); got != want {
			t.Errorf("LinuxFlags(%#x) = %#x, want %#x", attr, got, want)
		}
	}
	for attr, want := range map[uint32]uint64{2: 0x2000, 4: 0x4000, 32: 0x8000, 1: 0, 0xff: 0xe000} {
		if got := FATFlags(attr); got != want {
			t.Errorf("FATFlags(%#x) = %#x, want %#x", attr, got, want)
		}
	}
}
