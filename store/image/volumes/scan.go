package volumes

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
	"github.com/pbsfs/pbsfs/store/image/lvm"
	"github.com/pbsfs/pbsfs/store/image/partition"
	"github.com/pbsfs/pbsfs/store/image/probe"
)

// Layout is what lies on the disks of a machine.
type Layout struct {
	Disks []Disk
}

// Disk is what lies on one disk.
type Disk struct {
	// Raw is what lies right on the disk, nil if nothing is recognised there, or if it is a
	// partition table.
	Raw *Volume
	// Parts are the partitions, in the order of their numbers.
	Parts []*Volume
	// Groups are the volume groups that have a part on this disk.
	Groups []*Group
	// Note says what was wrong with the partition table, "" if nothing was.
	Note string
	// Err says why the disk could not be looked at.
	Err error
}

// Group is a volume group.
type Group struct {
	Name    string
	Volumes []*Volume
}

// Volume is a range of a disk, or of several.
type Volume struct {
	// Number is that of a partition, and Name that of a logical volume.
	Number int
	Name   string
	// Size is the length in bytes, and Allocated what is no hole of that, if
	// [Layout.Measure] has found out.
	Size, Allocated int64
	// Filesystem, Label, UUID and Note are those of the file system; "" without one. Log is
	// "dirty" if there is a log that was not replayed.
	Filesystem, Label, UUID, Note, Log string
	// Top is the top directory of the file system, with its attributes.
	Top       *image.Inode
	TopXattrs []image.Xattr
	// Reason says in one line what it is if it is no file system that can be read, and
	// what to do.
	Reason string
	// Err says why the volume could not be looked at.
	Err error

	disk    int
	off     int64
	logical *lvm.Volume
	members []*Volume // of the group, by position
}

// scanner is one look at the disks.
type scanner struct {
	disks   []io.ReaderAt
	layout  *Layout
	pvs     []*lvm.PhysicalVolume // by position; each of holders is where it lies
	holders []*Volume
}

// Scan looks at disks. The sizes are theirs, in bytes.
func Scan(disks []io.ReaderAt, sizes []int64) *Layout {
	s := &scanner{disks: disks, layout: &Layout{Disks: make([]Disk, len(disks))}}
	for i := range disks {
		s.disk(i, sizes[i])
	}
	s.groups()
	return s.layout
}

// disk looks at one disk.
func (s *scanner) disk(i int, size int64) {
	d := &s.layout.Disks[i]
	whole := &Volume{Size: size, disk: i}
	if s.filesystem(whole) {
		d.Raw = whole
		d.Err = whole.Err
		return
	}
	if whole.Err != nil {
		d.Err = whole.Err
		return
	}
	if s.physical(whole) {
		return
	}
	table, err := partition.Read(s.disks[i], size)
	switch {
	case err == nil:
		d.Note = table.Note
		for _, p := range table.Partitions {
			d.Parts = append(d.Parts, s.part(i, p))
		}
	case !errors.Is(err, partition.ErrNone):
		d.Err = err
	default:
		s.recognise(whole)
		if whole.Reason != "" {
			d.Raw = whole
		}
		d.Err = whole.Err
	}
}

// part looks at a partition.
func (s *scanner) part(disk int, p partition.Partition) *Volume {
	v := &Volume{Number: p.Number, Size: p.Size, disk: disk, off: p.Off}
	switch {
	case s.filesystem(v), v.Err != nil:
	case s.physical(v):
	default:
		s.recognise(v)
		if v.Reason == "" && v.Err == nil {
			v.Reason = "nothing that is known here"
		}
	}
	return v
}

// filesystem looks whether a decoder can read the volume. It reports that also if the file
// system is there and damaged: then that is the volume's Err.
func (s *scanner) filesystem(v *Volume) bool {
	fsys, err := v.Open(s.disks)
	if err == nil {
		err = v.describe(s.disks, fsys)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, image.ErrUnknown):
		return false
	case errors.Is(err, image.ErrUnsupported), errors.Is(err, image.ErrEncrypted):
		v.Reason = err.Error()
		return true
	}
	v.Err = err
	return true
}

// describe keeps what is shown of a file system before it is entered.
func (v *Volume) describe(disks []io.ReaderAt, fsys image.FileSystem) (err error) {
	r := v.Reader(disks)
	if v.Top, err = fsys.Inode(r, fsys.Root()); err != nil {
		return err
	}
	if v.Top.Type() != image.Dir {
		return corrupt.New("%s: its top is no directory", fsys.Name())
	}
	if v.TopXattrs, err = fsys.Xattrs(r, fsys.Root()); err != nil {
		return err
	}
	v.Filesystem, v.Label, v.UUID, v.Note = fsys.Name(), fsys.Label(), fsys.UUID(), fsys.Note()
	if l, ok := fsys.(interface{ LogDirty() bool }); ok && l.LogDirty() {
		v.Log = "dirty"
	}
	return nil
}

// physical looks whether the volume is a physical volume of LVM.
func (s *scanner) physical(v *Volume) bool {
	pv, err := lvm.Open(v.Reader(s.disks), v.Size)
	if errors.Is(err, lvm.ErrNone) {
		return false
	}
	if err != nil {
		v.Err = err
		if pv == nil {
			return true
		}
	}
	v.Reason = "a physical volume of LVM: its logical volumes are in lvm"
	s.pvs, s.holders = append(s.pvs, pv), append(s.holders, v)
	return true
}

// recognise says what the volume is, if that is known.
func (s *scanner) recognise(v *Volume) {
	found, ok, err := probe.Look(v.Reader(s.disks), v.Size)
	switch {
	case err != nil:
		v.Err = err
	case ok:
		v.Reason = fmt.Sprintf("%s: %s", found.Name, found.Advice)
	}
}

// groups joins the physical volumes of all disks.
func (s *scanner) groups() {
	for _, g := range lvm.Groups(s.pvs) {
		group := &Group{Name: g.Name}
		for i := range g.Volumes {
			group.Volumes = append(group.Volumes, s.logical(&g.Volumes[i]))
		}
		var on []int
		for _, m := range g.Members {
			if disk := s.holders[m].disk; !slices.Contains(on, disk) {
				on = append(on, disk)
				s.layout.Disks[disk].Groups = append(s.layout.Disks[disk].Groups, group)
			}
		}
	}
}

// logical looks at a logical volume.
func (s *scanner) logical(l *lvm.Volume) *Volume {
	v := &Volume{Name: l.Name, Size: l.Size, logical: l, members: s.holders}
	if l.Problem != "" {
		v.Reason = l.Problem
		return v
	}
	if !s.filesystem(v) && v.Err == nil {
		s.recognise(v)
		if v.Reason == "" && v.Err == nil {
			v.Reason = "nothing that is known here"
		}
	}
	return v
}
