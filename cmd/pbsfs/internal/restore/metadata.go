package restore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// The flags of chattr that matter here.
const (
	flagCompressed  = 0x4
	flagImmutable   = 0x10
	flagAppend      = 0x20
	flagNoCompress  = 0x400
	flagNoCOW       = 0x80_0000
	flagsOfContent  = flagCompressed | flagNoCompress | flagNoCOW // how content is written
	flagsAgainstUse = flagImmutable | flagAppend
)

// metadata is what an object gets besides its content.
type metadata struct {
	typ      uint32
	own      bool // owner and permissions were backed up
	uid, gid uint32
	mode     uint32 // permissions
	mtime    tree.Time
	xattrs   []tree.Attribute
	flags    uint32 // of chattr
	fat      uint32
	project  uint32
}

// The permissions of what has none in the backup: images, blobs, and the directories
// above archives. They may hold what nobody else may see.
const (
	ownFileMode = 0o600
	ownDirMode  = 0o700
)

// metadataOf returns what n was backed up with.
func (r *run) metadataOf(n *tree.Node) (*metadata, error) {
	a := n.Attr()
	m := &metadata{typ: n.Type(), mtime: a.Mtime, mode: ownFileMode}
	if n.IsDir() {
		m.mode = ownDirMode
	}
	if !n.BackedUp() {
		return m, nil
	}
	m.own, m.uid, m.gid, m.mode = true, a.UID, a.GID, a.Mode&^unix.S_IFMT
	m.flags, m.fat, m.project = pxar.LinuxAttr(uint64(a.Flags)), pxar.FATAttr(uint64(a.Flags)), a.Project
	var err error
	m.xattrs, err = n.StoredXattrs(r.ctx, r.right)
	if err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	return m, nil
}

// object is what metadata is set on. fd may be an O_PATH descriptor; then opened is false.
type object struct {
	fd     int
	opened bool
	st     unix.Stat_t
	acls   bool // it may have inherited ACLs
}

func (o *object) stat() error {
	return target("fstat", again(func() error { return unix.Fstat(o.fd, &o.st) }))
}

// proc is a path to the object for calls that take no O_PATH descriptor. It leads to the
// object even if that is a symbolic link.
func (o *object) proc() string { return "/proc/self/fd/" + strconv.Itoa(o.fd) }

// set sets everything but the flags. It does nothing that is there already. What this user
// or the file system cannot do is counted and is no error.
func (r *run) set(o *object, m *metadata) error {
	mode := m.mode
	if m.own {
		given, err := r.chown(o, m)
		if err != nil {
			return err
		}
		if !given { // else another user's program would run with the rights of this one
			mode &^= unix.S_ISUID | unix.S_ISGID
		}
	}
	if m.typ != unix.S_IFLNK && o.st.Mode&^unix.S_IFMT != mode {
		if err := r.lacking("permissions", o.chmod(mode)); err != nil {
			return err
		}
	}
	if err := r.setXattrs(o, m); err != nil {
		return err
	}
	if m.project != 0 && o.opened {
		if err := r.lacking("quota projects", setProject(o.fd, m.project)); err != nil {
			return err
		}
	}
	return o.touch(m.mtime)
}

// chown sets the owner. It reports whether the object has that owner now.
func (r *run) chown(o *object, m *metadata) (bool, error) {
	if o.st.Uid == m.uid && o.st.Gid == m.gid {
		return true, nil
	}
	err := again(func() error {
		return unix.Fchownat(o.fd, "", int(m.uid), int(m.gid), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	})
	switch {
	case err == nil:
		return true, o.stat() // takes setuid and setgid away
	case notPermitted(err) && os.Geteuid() != 0:
		r.tally.lack("owners", "only root can give files to others", true)
		return false, nil
	case notPermitted(err), unsupported(err), errors.Is(err, unix.EOVERFLOW):
		r.tally.lack("owners", err.Error(), false)
		return false, nil
	}
	return false, target("chown", err)
}

func (o *object) chmod(mode uint32) error {
	return again(func() error {
		if o.opened {
			return unix.Fchmod(o.fd, mode)
		}
		return unix.Chmod(o.proc(), mode)
	})
}

func (o *object) touch(at tree.Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: at.Sec, Nsec: int64(at.Nsec)}}
	if o.st.Mtim == times[1] {
		return nil
	}
	err := again(func() error { return unix.UtimesNanoAt(o.fd, "", times, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) })
	return target("setting the time", err)
}

// setXattrs sets extended attributes, ACLs and capabilities.
func (r *run) setXattrs(o *object, m *metadata) error {
	if o.acls && m.typ != unix.S_IFLNK {
		for _, name := range []string{accessACL, defaultACL} {
			err := o.removexattr(name)
			if err != nil && !errors.Is(err, unix.ENODATA) && !unsupported(err) && !notPermitted(err) {
				return target("removing the inherited ACL", err)
			}
		}
		// An ACL that was there has changed the mode.
		if err := o.stat(); err != nil {
			return err
		}
		if want := m.mode & 0o777; o.st.Mode&0o777 != want {
			if err := r.lacking("permissions", o.chmod(o.st.Mode&0o7000|want)); err != nil {
				return err
			}
		}
	}
	for _, x := range m.xattrs {
		err := o.setxattr(x)
		if errors.Is(err, unix.ENOSPC) && isFull(o.fd) {
			return target("extended attributes", err)
		}
		if err := r.lackingAttribute(x.Name, err); err != nil {
			return err
		}
	}
	return nil
}

// isFull reports whether a file system has no room for anything. Attributes of one object
// may have too little room on one that is not full.
func isFull(fd int) bool {
	const little = 1 << 20
	var st unix.Statfs_t
	return again(func() error { return unix.Fstatfs(fd, &st) }) == nil && int64(st.Bavail)*st.Bsize < little
}

func (o *object) setxattr(x tree.Attribute) error {
	return again(func() error {
		if o.opened {
			return unix.Fsetxattr(o.fd, x.Name, x.Value, 0)
		}
		return unix.Setxattr(o.proc(), x.Name, x.Value, 0)
	})
}

func (o *object) removexattr(name string) error {
	return again(func() error {
		if o.opened {
			return unix.Fremovexattr(o.fd, name)
		}
		return unix.Removexattr(o.proc(), name)
	})
}

// lackingAttribute counts an attribute that cannot be set here.
func (r *run) lackingAttribute(name string, err error) error {
	what := "extended attributes"
	switch {
	case name == accessACL || name == defaultACL:
		what = "ACLs"
	case name == "security.capability":
		what = "capabilities"
	case strings.HasPrefix(name, "trusted."):
		what = "attributes trusted.*"
	}
	if isAny(err, []error{unix.ENOSPC, unix.E2BIG, unix.ERANGE}) {
		r.tally.lack(what, "they are too large for the file system", false)
		return nil
	}
	return r.lacking(what, err)
}

// lacking counts what this user or the file system cannot do. It returns other errors.
func (r *run) lacking(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case unsupported(err), notPermitted(err):
		r.tally.lack(what, err.Error(), false)
		return nil
	}
	return target(what, err)
}

// setContentFlags sets, on an empty file, the flags for how its content is written.
func (r *run) setContentFlags(fd int, m *metadata) {
	want := m.flags & flagsOfContent
	if want == 0 {
		return
	}
	if now, err := flagsOf(fd); err == nil && now|want != now {
		_ = setFlags(fd, now|want) // all flags are set again at the end, and counted
	}
}

// setAllFlags sets the flags of an open file or directory, those that forbid changes too.
// What it has inherited beyond them stays.
func (r *run) setAllFlags(fd int, m *metadata) error {
	if m.fat != 0 && isFAT(fd) {
		return r.lacking("attributes of FAT", setFAT(fd, m.fat))
	}
	if m.flags == 0 {
		return nil
	}
	now, err := flagsOf(fd)
	if err != nil || now|m.flags == now {
		return r.lacking("file flags", err)
	}
	if err := setFlags(fd, now|m.flags); err == nil || !unsupported(err) {
		return r.lacking("file flags", err)
	}
	// The file system has some of them, perhaps.
	var last error
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if m.flags&^now&bit == 0 {
			continue
		}
		if err := setFlags(fd, now|bit); err != nil {
			last = err
		} else {
			now |= bit
		}
	}
	return r.lacking("file flags", last)
}
