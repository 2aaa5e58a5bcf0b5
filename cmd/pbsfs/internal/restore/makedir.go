package restore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// unfinishedName is the attribute of directories that are made in a TARGET with other
// things in it: the marker there cannot tell them from others.
const unfinishedName = "user.pbsfs.unfinished"

// enter makes a directory, or enters the one that is there.
func (r *run) enter(d *dir) error {
	if d.up.absent {
		d.absent = true
		r.tally.made(unix.S_IFDIR)
		return nil
	}
	up, err := r.dirs.use(d.up)
	if err != nil {
		return err
	}
	defer r.dirs.done(d.up)
	if r.o.DryRun {
		return r.lookInto(up, d)
	}
	err = r.mkdir(up, d)
	if errors.Is(err, unix.EEXIST) {
		return r.enterExisting(up, d)
	}
	if err != nil {
		return target("making the directory", err)
	}
	return r.enterNew(up, d)
}

// mkdir makes a directory. Among others it has the attribute of one that is not finished
// before it has its name.
func (r *run) mkdir(up int, d *dir) error {
	if r.ours {
		return again(func() error { return unix.Mkdirat(up, d.name, 0o700) })
	}
	var st unix.Stat_t
	if unix.Fstatat(up, d.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return unix.EEXIST
	}
	temp := temporary()
	if err := again(func() error { return unix.Mkdirat(up, temp, 0o700) }); err != nil {
		return err
	}
	if fd, err := openDirectory(up, temp); err == nil {
		d.marked = unix.Fsetxattr(fd, unfinishedName, []byte("1"), 0) == nil
		unix.Close(fd)
	}
	err := again(func() error { return unix.Renameat2(up, temp, up, d.name, unix.RENAME_NOREPLACE) })
	if unsupported(err) { // a directory takes the place of an empty one at most
		err = again(func() error { return unix.Renameat(up, temp, up, d.name) })
	}
	if err != nil {
		_ = unix.Unlinkat(up, temp, unix.AT_REMOVEDIR)
	}
	return err
}

// enterNew enters a directory that was just made.
func (r *run) enterNew(up int, d *dir) error {
	fd, err := openDirectory(up, d.name)
	if err != nil {
		return target("opening the new directory", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return target("fstat", err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 && !d.up.acls {
		unix.Close(fd)
		return refuse("the new directory was replaced by another one")
	}
	d.id = identityOf(&st)
	if d.up.acls {
		o := object{fd: fd, opened: true}
		_, _ = o.removexattr(accessACL), o.removexattr(defaultACL)
		_ = o.chmod(0o700)
	}
	r.tally.made(unix.S_IFDIR)
	r.dirs.put(d, fd)
	r.dirs.done(d)
	return nil
}

// enterExisting enters a directory that was there.
func (r *run) enterExisting(up int, d *dir) error {
	fd, err := openDirectory(up, d.name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return r.replaceByDirectory(up, d)
	}
	if err != nil {
		return target("opening the directory that is there", err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil {
		err = r.allowed(fd, &st)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	d.id, d.existed, d.acls = identityOf(&st), true, hasDefaultACL(fd)
	r.own(d, fd)
	if !r.o.DryRun {
		r.clean(d, fd)
	}
	r.dirs.put(d, fd)
	r.dirs.done(d)
	return nil
}

// own decides whether a directory that was there gets the metadata of the backup.
func (r *run) own(d *dir, fd int) {
	_, err := unix.Fgetxattr(fd, unfinishedName, nil)
	d.marked = err == nil
	if !r.ours && r.o.Overwrite == Never && !d.marked {
		d.node = nil
		r.tally.kept.Add(1)
		return
	}
	r.tally.made(unix.S_IFDIR)
}

// allowed refuses directories of the datastore. Other mounts may be in TARGET.
func (r *run) allowed(fd int, st *unix.Stat_t) error {
	if r.guard.ids[identityOf(st)] {
		return errInDatastore
	}
	mount, err := mountOf(fd)
	if err != nil || r.mounts[mount] {
		return target("statx", err)
	}
	if err := r.guard.check(r.ctx, fd); err != nil {
		return err
	}
	r.mounts[mount] = true // the datastore itself is found by its identity
	return nil
}

// replaceByDirectory makes a directory where something else is.
func (r *run) replaceByDirectory(up int, d *dir) error {
	var st unix.Stat_t
	if err := unix.Fstatat(up, d.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return target("fstatat", err)
	}
	if r.ours || !r.replaces(d.node, &st) {
		return refuse("something is in the way that is no directory")
	}
	if r.o.DryRun {
		d.absent = true
		r.tally.replaced.Add(1)
		r.tally.made(unix.S_IFDIR)
		return nil
	}
	if err := again(func() error { return unix.Unlinkat(up, d.name, 0) }); err != nil {
		return target("removing what is in the way", err)
	}
	if err := r.mkdir(up, d); err != nil {
		return target("making the directory", err)
	}
	r.tally.replaced.Add(1)
	return r.enterNew(up, d)
}

// lookInto looks in a dry run at what there is of a directory.
func (r *run) lookInto(up int, d *dir) error {
	var st unix.Stat_t
	err := unix.Fstatat(up, d.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		d.absent = true
		r.tally.made(unix.S_IFDIR)
		return nil
	}
	if err != nil {
		return target("fstatat", err)
	}
	return r.enterExisting(up, d)
}

// hasDefaultACL reports whether new files in a directory inherit an ACL.
func hasDefaultACL(fd int) bool {
	_, err := unix.Fgetxattr(fd, defaultACL, nil)
	return err == nil
}

// clean removes the temporary files that a killed restore has left in a directory.
func (r *run) clean(d *dir, fd int) {
	dup, err := openDirectory(fd, ".")
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(dup), d.name)
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			if isTemporary(name) {
				r.removeTemporary(d, fd, name)
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// removeTemporary removes a temporary file, if it is none that the backup has.
func (r *run) removeTemporary(d *dir, fd int, name string) {
	var st unix.Stat_t
	err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	// Root may have given it away before it was killed.
	if err != nil || int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return
	}
	if d.node != nil {
		if _, err := d.node.Lookup(r.ctx, r.right, name); !errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	how := 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		how = unix.AT_REMOVEDIR // works only if it is empty, as ours are
	}
	_ = unix.Unlinkat(fd, name, how)
}

// finish gives a directory its metadata.
func (r *run) finish(d *dir) error {
	r.tally.done.Add(1)
	if d.node == nil || d.absent || r.o.DryRun {
		return nil
	}
	m, err := r.metadataOf(d.node)
	if err != nil {
		return err
	}
	fd, err := r.dirs.use(d)
	if err != nil {
		return err
	}
	defer r.dirs.done(d)
	o := object{fd: fd, opened: true, acls: d.existed && d.acls}
	if err := o.stat(); err != nil {
		return err
	}
	if d.existed && r.ours && r.isLocked(fd, m) {
		return nil // it was finished before: the flags come last
	}
	if err := r.set(&o, m); err != nil {
		return err
	}
	if d.marked {
		unmark(&o)
	}
	if err := r.setAllFlags(fd, m); err != nil {
		return err
	}
	return r.verifyObject(&o, m, d.path())
}

// unmark takes away the attribute of a directory that is not finished.
func unmark(o *object) {
	err := unix.Fremovexattr(o.fd, unfinishedName)
	if !notPermitted(err) || o.stat() != nil {
		return
	}
	// Other users than root must be allowed to write to the directory.
	mode := o.st.Mode &^ unix.S_IFMT
	if o.chmod(mode|unix.S_IWUSR) == nil {
		_ = unix.Fremovexattr(o.fd, unfinishedName)
		_ = o.chmod(mode)
	}
}

// isLocked reports whether a flag of the backup that forbids changes is set already.
func (r *run) isLocked(fd int, m *metadata) bool {
	if m.flags&flagsAgainstUse == 0 {
		return false
	}
	now, err := flagsOf(fd)
	return err == nil && now&m.flags&flagsAgainstUse != 0
}
