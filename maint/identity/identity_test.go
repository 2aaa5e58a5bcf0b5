package identity

import "testing"

func TestSame(t *testing.T) {
	const a, b = "1111-aaaa", "2222-bbbb"
	seen := ID{Dev: 1, Ino: 2}
	removable := ID{UUID: a, Path: "/store"}
	mounted := ID{Dev: 7, Ino: 2, Disk: "8:16", UUID: a, Path: "/store"}
	with := func(id ID, change func(*ID)) ID { change(&id); return id }
	for _, c := range []struct {
		name          string
		a, b          ID
		same, differs bool
	}{
		{"seen twice", seen, seen, true, false},
		{"another inode", seen, ID{Dev: 1, Ino: 3}, false, true},
		{"another device", seen, ID{Dev: 2, Ino: 2}, false, true},
		{"nothing known", ID{}, ID{}, false, false},
		{"one known", seen, ID{}, false, false},
		{"told of, and mounted", removable, mounted, true, false},
		{"told of, and mounted, in other letters", with(removable, func(i *ID) { i.UUID = "1111-AAAA" }), mounted, true, false},
		{"told of twice", removable, removable, true, false},
		{"another place on the disk", removable, with(mounted, func(i *ID) { i.Path = "/other" }), false, true},
		{"another disk", removable, with(mounted, func(i *ID) { i.UUID = b }), false, true},
		{"the disk's UUID is not known", removable, with(mounted, func(i *ID) { i.UUID = "" }), false, false},
		{"one disk by two devices", mounted, with(mounted, func(i *ID) { i.Dev = 9 }), true, false},
		{"one disk by two devices, another datastore", mounted, with(mounted, func(i *ID) { i.Dev, i.Ino = 9, 3 }), false, true},
		{"two subvolumes, alike", with(mounted, func(i *ID) { i.Disk = "" }), with(mounted, func(i *ID) { i.Dev, i.Disk, i.Path = 9, "", "/snap/store" }), false, true},
		{"a copy of the disk", mounted, with(mounted, func(i *ID) { i.Dev, i.Disk = 9, "8:32" }), false, true},
		{"the device's number was given away", mounted, with(mounted, func(i *ID) { i.UUID = b }), false, true},
		{"renamed on its disk", mounted, with(mounted, func(i *ID) { i.Path = "/renamed" }), true, false},
	} {
		for _, pair := range [][2]ID{{c.a, c.b}, {c.b, c.a}} {
			if got := pair[0].Same(pair[1]); got != c.same {
				t.Errorf("%s: same %v", c.name, got)
			}
			if got := pair[0].Differs(pair[1]); got != c.differs {
				t.Errorf("%s: differs %v", c.name, got)
			}
		}
		if c.same && c.a.Seen() && c.b.Seen() && c.a.Sum() != c.b.Sum() {
			t.Errorf("%s: sums %s and %s", c.name, c.a.Sum(), c.b.Sum())
		}
		if c.differs && c.a.Seen() && c.b.Seen() && c.a.Sum() == c.b.Sum() && c.a.UUID == c.b.UUID {
			t.Errorf("%s: one sum, %s", c.name, c.a.Sum())
		}
	}
}
