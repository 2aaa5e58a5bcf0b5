package restore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/pxar"
	"github.com/pbsfs/pbsfs/store/tree"
)

// replaces reports whether what is there is replaced, as far as its stat tells. What a
// restore of ours has left is complete.
func (r *run) replaces(n *tree.Node, st *unix.Stat_t) bool {
	if r.ours {
		return false
	}
	switch r.o.Overwrite {
	case Never:
	case Older:
		t := n.Attr().Mtime
		return t.Sec > st.Mtim.Sec || t.Sec == st.Mtim.Sec && int64(t.Nsec) > st.Mtim.Nsec
	case Changed, Always:
		return true
	}
	return false
}

// wanted reports whether what is there is to be replaced.
func (w *writer) wanted(fd int, j *job, st *unix.Stat_t) bool {
	if !w.replaces(j.node, st) {
		return false
	}
	if w.o.Overwrite != Changed {
		return true
	}
	if st.Mode&unix.S_IFMT != j.node.Type() || j.node.Type() == unix.S_IFREG && st.Size != j.node.Attr().Size {
		return true
	}
	m, err := w.metadataOf(j.node)
	if err != nil {
		return true // it is damaged, which will be said when it is read again
	}
	o, err := openObject(fd, j.name, st)
	if err != nil {
		return true
	}
	defer unix.Close(o.fd)
	how, err := w.differences(&o, m)
	if err != nil || len(how) > 0 {
		return true
	}
	return w.otherKind(fd, j, st)
}

// otherKind compares what links and devices have instead of content.
func (w *writer) otherKind(fd int, j *job, st *unix.Stat_t) bool {
	switch j.node.Type() {
	case unix.S_IFLNK:
		to, err := readlink(fd, j.name)
		return err != nil || to != j.node.Target()
	case unix.S_IFCHR, unix.S_IFBLK:
		return st.Rdev != deviceOf(j.node)
	}
	return false
}

// openObject opens an object that is there without doing anything to it: a regular file
// or directory for reading, so that its flags can be read, and anything else by O_PATH.
func openObject(fd int, name string, st *unix.Stat_t) (object, error) {
	how, opened := unix.O_PATH, false
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFREG || t == unix.S_IFDIR {
		how, opened = unix.O_RDONLY|unix.O_NONBLOCK, true
	}
	f, err := unix.Openat(fd, name, how|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return object{}, target("opening what is there", err)
	}
	o := object{fd: f, opened: opened}
	if err := o.stat(); err != nil {
		unix.Close(f)
		return object{}, err
	}
	if identityOf(&o.st) != identityOf(st) {
		unix.Close(f)
		return object{}, refuse("it was replaced meanwhile")
	}
	return o, nil
}

// keep leaves what is there. Of a restore of ours only the flags may be missing.
func (w *writer) keep(fd int, j *job, st *unix.Stat_t) error {
	w.tally.kept.Add(1)
	if st.Mode&unix.S_IFMT != j.node.Type() || w.ours && !isComplete(j.node, st) {
		if w.ours {
			return refuse("something else of that name is there; the archive has two of it, or somebody has made it")
		}
		return nil
	}
	m, err := w.metadataOf(j.node)
	if err != nil {
		return err
	}
	isFile := j.node.Type() == unix.S_IFREG
	linked := isFile && j.link != nil && j.first
	complete := isFile && w.ours && !w.o.DryRun && m.flags != 0
	marked := isFile && w.ours && w.o.Salvage
	if !linked && !complete && !marked && !w.o.Verify {
		return nil
	}
	o, err := openObject(fd, j.name, st)
	if err != nil {
		return err
	}
	defer unix.Close(o.fd)
	if marked {
		w.markedBefore(&o, j, m)
	}
	switch {
	case complete:
		if err := w.lateFlags(j, &o, m); err != nil {
			return err
		}
	case linked:
		j.link.is(j, identityOf(st))
	}
	if !w.o.Verify {
		return nil
	}
	if j.node.Type() != unix.S_IFREG {
		return w.verifySpecial(fd, j, &o, m)
	}
	content, err := j.node.Open(w.ctx, w.right)
	if err != nil {
		return err
	}
	return w.verifyFile(j, &o, m, content)
}

// isComplete reports whether what is there can be what a restore of ours has made. A file
// with more names than it had in the backup may be another's, and gets no flags from here.
func isComplete(n *tree.Node, st *unix.Stat_t) bool {
	a := n.Attr()
	return n.Type() != unix.S_IFREG || st.Size == a.Size && uint64(st.Nlink) <= uint64(a.Nlink)
}

// differences says how an object differs from the backup. What the target cannot hold
// counts as a difference.
func (r *run) differences(o *object, m *metadata) ([]string, error) {
	var how []string
	differ := func(what string, got, want any) {
		if got != want {
			how = append(how, fmt.Sprintf("%s %v instead of %v", what, got, want))
		}
	}
	if m.own {
		differ("owner", fmt.Sprintf("%d:%d", o.st.Uid, o.st.Gid), fmt.Sprintf("%d:%d", m.uid, m.gid))
	}
	if m.typ != unix.S_IFLNK {
		differ("mode", fmt.Sprintf("%#o", o.st.Mode&^unix.S_IFMT), fmt.Sprintf("%#o", m.mode))
	}
	differ("time", fmt.Sprintf("%d.%09d", o.st.Mtim.Sec, o.st.Mtim.Nsec), fmt.Sprintf("%d.%09d", m.mtime.Sec, m.mtime.Nsec))
	if err := differentXattrs(o, m, &how); err != nil {
		return nil, err
	}
	if o.opened && m.flags != 0 {
		now, err := flagsOf(o.fd)
		differ("flags", fmt.Sprintf("%#x", now&m.flags), fmt.Sprintf("%#x", m.flags))
		if err != nil && !unsupported(err) {
			return nil, target("file flags", err)
		}
	}
	if o.opened && m.project != 0 {
		now, err := project(o.fd)
		differ("project", now, m.project)
		if err != nil && !unsupported(err) {
			return nil, target("quota project", err)
		}
	}
	return how, nil
}

// differentXattrs compares the extended attributes that backups have.
func differentXattrs(o *object, m *metadata, how *[]string) error {
	if !m.own {
		return nil
	}
	have, err := xattrsOf(o)
	if err != nil {
		return err
	}
	for _, x := range m.xattrs {
		value, ok := have[x.Name]
		if !ok || !bytes.Equal(value, x.Value) {
			*how = append(*how, fmt.Sprintf("attribute %q differs", x.Name))
		}
		delete(have, x.Name)
	}
	for name := range have {
		*how = append(*how, fmt.Sprintf("attribute %q is not in the backup", name))
	}
	return nil
}

// xattrsOf returns the extended attributes of an object, of the kinds that backups have.
func xattrsOf(o *object) (map[string][]byte, error) {
	list, err := grown(func(b []byte) (int, error) {
		if o.opened {
			return unix.Flistxattr(o.fd, b)
		}
		return unix.Listxattr(o.proc(), b)
	})
	if unsupported(err) {
		return nil, nil
	}
	if err != nil {
		return nil, target("extended attributes", err)
	}
	out := make(map[string][]byte)
	for _, name := range strings.Split(string(list), "\x00") {
		if name == "" || !pxar.StoresAttribute(name) || name == unfinishedName {
			continue
		}
		value, err := grown(func(b []byte) (int, error) {
			if o.opened {
				return unix.Fgetxattr(o.fd, name, b)
			}
			return unix.Getxattr(o.proc(), name, b)
		})
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, target("extended attributes", err)
		}
		out[name] = value
	}
	return out, nil
}

// grown calls a function that fills a buffer, with one that is large enough.
func grown(call func(b []byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := call(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}
