package fs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/storetest"
	"github.com/pbsfs/pbsfs/store/tree"
)

// logged is a log whose lines a test counts.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) lines(with string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestErrnos(t *testing.T) {
	damage := &store.Error{Off: -1, Err: corrupt.New("wrong")}
	key := &store.Error{Off: -1, Err: &store.KeyError{}}
	for what, c := range map[string]struct {
		err  error
		want syscall.Errno
	}{
		"nothing":               {nil, 0},
		"cancelled":             {context.Canceled, syscall.EINTR},
		"too late":              {context.DeadlineExceeded, syscall.EINTR},
		"not there":             {fs.ErrNotExist, syscall.ENOENT},
		"unmounting":            {&cfg.ModeError{Type: cfg.Unmount}, syscall.ENOMEDIUM},
		"deleted":               {&cfg.ModeError{Type: cfg.Delete}, syscall.ESTALE},
		"offline":               {&cfg.ModeError{Type: cfg.Offline}, syscall.EHOSTDOWN},
		"s3 refresh":            {&cfg.ModeError{Type: cfg.S3Refresh}, syscall.EHOSTDOWN},
		"unknown mode":          {&cfg.ModeError{Type: cfg.Unknown}, syscall.EHOSTDOWN},
		"not to be counted":     {&maint.RegisterError{Err: fs.ErrNotExist}, syscall.EIO},
		"stopping":              {errStopping, syscall.EHOSTDOWN},
		"gone":                  {store.ErrGone, syscall.ENOMEDIUM},
		"key needed":            {key, syscall.EACCES},
		"locked by the server":  {store.ErrBusy, syscall.EBUSY},
		"damage":                {damage, syscall.EIO},
		"corrupt":               {store.ErrCorrupt, syscall.EIO},
		"not a directory":       {syscall.ENOTDIR, syscall.ENOTDIR},
		"a directory":           {syscall.EISDIR, syscall.EISDIR},
		"no memory":             {syscall.ENOMEM, syscall.ENOMEM},
		"no descriptors":        {syscall.EMFILE, syscall.EMFILE},
		"no descriptors at all": {syscall.ENFILE, syscall.ENFILE},
		"the disk":              {&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}, syscall.EIO},
		"no permission":         {&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, syscall.EIO},
		"read-only":             {&cfg.ModeError{Type: cfg.ReadOnly}, syscall.EIO},
		"released":              {store.ErrReleased, syscall.EIO},
		"unknown":               {errors.New("something"), syscall.EIO},
		"no function":           {syscall.ENOSYS, syscall.EIO},
		// A file of the datastore that is missing is no missing file of the user's.
		"file of a snapshot missing":      {&store.Error{Off: -1, Err: fs.ErrNotExist}, syscall.EIO},
		"joined, the snapshot's first":    {errors.Join(&store.Error{Off: -1, Err: fs.ErrNotExist}, fs.ErrNotExist), syscall.EIO},
		"the first line of two counts":    {errors.Join(store.ErrCorrupt, context.Canceled), syscall.EINTR},
		"collision of two":                {&collision{path: "a", name: "b"}, syscall.EIO},
		"a missing file below, and a key": {&store.Error{Off: -1, Err: errors.Join(&store.KeyError{}, fs.ErrNotExist)}, syscall.EACCES},
	} {
		for how, err := range map[string]error{"bare": c.err, "wrapped": wrap(c.err), "joined": join(c.err)} {
			if got := errnoOf(err); got != c.want {
				t.Errorf("%s, %s: %v, want %v", what, how, got, c.want)
			}
		}
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading: %w", fmt.Errorf("opening: %w", err))
}

func join(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errors.New("something else"), err)
}

func TestMemoryMayAnswer(t *testing.T) {
	for err, want := range map[error]bool{
		&cfg.ModeError{Type: cfg.Offline}: true, &cfg.ModeError{Type: cfg.Unmount}: true, store.ErrGone: true, errStopping: true,
		&maint.RegisterError{}: true, &cfg.ModeError{Type: cfg.Delete}: false, fs.ErrNotExist: false, store.ErrCorrupt: false, context.Canceled: false,
	} {
		if got := memoryMayAnswer(wrap(err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestEachCauseIsReportedOnce(t *testing.T) {
	var log logged
	p := &problems{log: log.logger()}
	report := func(err error) { t.Helper(); p.report(err, errnoOf(err)) }
	file := func(off int64, reason string) error {
		return wrap(&store.Error{Datastore: "tank", Off: off, Err: corrupt.New("%s", reason)})
	}
	for range 3 {
		report(file(1, "one"))
		report(file(2, "one")) // the same cause at another place
	}
	if n := log.lines("cannot be served"); n != 1 {
		t.Errorf("%d lines for one cause, want 1", n)
	}
	report(file(1, "two"))
	for range 2 {
		report(&store.Error{Off: 1, Err: &store.KeyError{}})
		report(&store.Error{Off: 2, Err: &store.KeyError{}})
		report(errors.New("plain"))
	}
	if n := log.lines("cannot be served"); n != 4 {
		t.Errorf("%d lines for four causes, want 4", n)
	}
	for _, err := range []error{fs.ErrNotExist, context.Canceled, &cfg.ModeError{Type: cfg.Offline}, &cfg.ModeError{Type: cfg.Delete}} {
		report(err)
	}
	if n := len(p.recent()); n != 4 {
		t.Errorf("%d problems, want 4: answers are none", n)
	}
	if got := p.recent()[0].Text; !strings.Contains(got, "one") || !strings.Contains(got, "offset 1") {
		t.Errorf("first problem is %q", got)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var log logged
	p := &problems{log: log.logger()}
	for i := range causesReported + 10 {
		p.report(fmt.Errorf("problem %d", i), syscall.EIO)
		if len(p.causes) > causesReported || len(p.last) > problemsKept {
			t.Fatalf("%d causes and %d problems are kept", len(p.causes), len(p.last))
		}
	}
	last := p.recent()
	if got, want := last[len(last)-1].Text, fmt.Sprintf("problem %d", causesReported+9); len(last) != problemsKept || got != want {
		t.Errorf("%d problems, the last is %q, want %d and %q", len(last), got, problemsKept, want)
	}
}

// What a type must not be able to do. Reading without a handle would not be
// counted; a handle that answered for attributes would do so while it is open
// only.
func TestMethodsThatMustNotBe(t *testing.T) {
	var n, f, d any = &inode{}, &fileHandle{}, &dirHandle{}
	is := map[string]bool{}
	_, is["inode reads"] = n.(gofs.NodeReader)
	_, is["inode writes"] = n.(gofs.NodeWriter)
	_, is["inode releases"] = n.(gofs.NodeReleaser)
	_, is["inode flushes"] = n.(gofs.NodeFlusher)
	_, is["inode syncs"] = n.(gofs.NodeFsyncer)
	_, is["inode seeks"] = n.(gofs.NodeLseeker)
	_, is["inode allocates"] = n.(gofs.NodeAllocater)
	_, is["inode lists without a handle"] = n.(gofs.NodeReaddirer)
	_, is["inode opens directories without a handle"] = n.(gofs.NodeOpendirer)
	_, is["inode copies"] = n.(gofs.NodeCopyFileRanger)
	_, is["inode locks"] = n.(gofs.NodeSetlker)
	_, is["inode takes ioctls"] = n.(gofs.NodeIoctler)
	_, is["inode wraps children"] = n.(gofs.NodeWrapChilder)
	_, is["handle has attributes"] = f.(gofs.FileGetattrer)
	_, is["handle sets attributes"] = f.(gofs.FileSetattrer)
	_, is["handle passes its descriptor on"] = f.(gofs.FilePassthroughFder)
	_, is["handle locks"] = f.(gofs.FileSetlker)
	_, is["handle takes ioctls"] = f.(gofs.FileIoctler)
	_, is["directory reads"] = d.(gofs.FileReader)
	_, is["directory has attributes"] = d.(gofs.FileGetattrer)
	for what, yes := range is {
		if yes {
			t.Error(what)
		}
	}
	if len(is) != 20 {
		t.Errorf("%d assertions, want 20", len(is))
	}
}

// Each method that would change something answers EROFS, whatever it is given.
func TestMutationsAreRefused(t *testing.T) {
	ctx, i, h := t.Context(), &inode{}, &fileHandle{}
	got := map[string]syscall.Errno{
		"Setattr": i.Setattr(ctx, nil, nil, nil), "Setxattr": i.Setxattr(ctx, "user.x", nil, 0), "Removexattr": i.Removexattr(ctx, "user.x"),
		"Unlink": i.Unlink(ctx, "x"), "Rmdir": i.Rmdir(ctx, "x"), "Rename": i.Rename(ctx, "x", i, "y", 0), "Allocate": h.Allocate(ctx, 0, 1, 0),
	}
	_, _, _, got["Create"] = i.Create(ctx, "x", 0, 0, nil)
	_, got["Mkdir"] = i.Mkdir(ctx, "x", 0, nil)
	_, got["Mknod"] = i.Mknod(ctx, "x", 0, 0, nil)
	_, got["Symlink"] = i.Symlink(ctx, "x", "y", nil)
	_, got["Link"] = i.Link(ctx, i, "x", nil)
	_, got["Write"] = h.Write(ctx, nil, 0)
	for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDONLY | syscall.O_TRUNC, syscall.O_RDWR | syscall.O_CREAT} {
		_, _, got[fmt.Sprintf("Open %#x", flags)] = i.Open(ctx, flags)
	}
	for what, errno := range got {
		if errno != syscall.EROFS {
			t.Errorf("%s: %v, want EROFS", what, errno)
		}
	}
}

const noon = "2023-11-14T12:00:00Z"

// mounted is a datastore with one snapshot, and the reference to mount it by.
type mounted struct {
	*storetest.Store
	ref *store.Lookup
	dir string // of the snapshot
}

func newDatastore(t testing.TB, root *storetest.Node, more func(*storetest.Snapshot)) *mounted {
	t.Helper()
	s := storetest.New(t)
	sn := s.Snapshot("host/alpha", noon)
	sn.Pxar("root.pxar.didx", root)
	if more != nil {
		more(sn)
	}
	sn.Finish()
	ref, err := store.Open(t.Context(), store.Options{Name: "tank", Path: s.Dir, Host: storetest.Host(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ref.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &mounted{s, ref, sn.Dir}
}

// node walks to a node of the tree.
func (m *mounted) node(t testing.TB, path string) *tree.Node {
	t.Helper()
	var n *tree.Node
	err := m.ref.View(t.Context(), func(r *store.Reader) (err error) {
		n, err = tree.New(m.ref).Walk(t.Context(), r, path, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOwnership(t *testing.T) {
	f := storetest.File("f", "12345")
	f.Mode, f.UID, f.GID, f.Sec, f.Nsec = 0o106755, 1000, 100, -86400, 5e8
	m := newDatastore(t, storetest.Dir("", f), nil)
	n := m.node(t, m.dir+"/root.pxar/f")
	const none = NoReplacement
	for _, c := range []struct {
		o         ownership
		uid, gid  uint32
		mode      uint32
		seesACLs  bool
		wantOwner string
	}{
		{ownership{none, none, none}, 1000, 100, 0o106755, true, "as stored"},
		{ownership{0, none, none}, 0, 100, 0o106755, false, "uid=0"},
		{ownership{none, 0, none}, 1000, 0, 0o106755, false, "gid=0"},
		{ownership{none, none, 0}, 1000, 100, 0o106755, false, "umask=0"},
		{ownership{4294967294, 7, 0o077}, 4294967294, 7, 0o106700, false, "all three"},
		{ownership{none, none, 0o777}, 1000, 100, 0o106000, false, "umask=777"},
	} {
		var a fuse.Attr
		c.o.attr(n, &a)
		if a.Uid != c.uid || a.Gid != c.gid || a.Mode != c.mode {
			t.Errorf("%s: %d:%d %o, want %d:%d %o", c.wantOwner, a.Uid, a.Gid, a.Mode, c.uid, c.gid, c.mode)
		}
		if int64(a.Mtime) != -86400 || a.Mtimensec != 5e8 || a.Atime != a.Mtime || a.Ctime != a.Mtime || a.Size != 5 || a.Blocks != 1 || a.Nlink != 1 {
			t.Errorf("%s: attributes %+v", c.wantOwner, a)
		}
		if got := c.o.visible(tree.Attribute{Name: "system.posix_acl_access"}, true); got != c.seesACLs {
			t.Errorf("%s: ACLs are listed: %v, want %v", c.wantOwner, got, c.seesACLs)
		}
	}
	o := ownership{none, none, none}
	for name, want := range map[string][2]bool{"trusted.x": {false, true}, "user.x": {true, true}, "security.capability": {true, true}} {
		if got := [2]bool{o.visible(tree.Attribute{Name: name}, false), o.visible(tree.Attribute{Name: name}, true)}; got != want {
			t.Errorf("%s is listed to users and root: %v, want %v", name, got, want)
		}
	}
}

func TestXattrSizes(t *testing.T) {
	big := strings.Repeat("b", 3000) // read again at each request
	m := newDatastore(t, storetest.Dir("",
		storetest.File("small", "").With("user.a", "value").With("user.empty", "").With("system.posix_acl_access", "acl"),
		storetest.File("big", "").With("user.a", big).With("user.b", "x"),
	), nil)
	fsys := newFilesystem(m.ref, ownership{-1, -1, -1}, slog.New(slog.DiscardHandler))
	small, large := fsys.newInode(m.node(t, m.dir+"/root.pxar/small")), fsys.newInode(m.node(t, m.dir+"/root.pxar/big"))
	for _, c := range []struct {
		i    *inode
		name string
		room int
		size uint32
		err  syscall.Errno
		want string
	}{
		{small, "user.a", 0, 5, syscall.ERANGE, ""},
		{small, "user.a", 4, 5, syscall.ERANGE, ""},
		{small, "user.a", 5, 5, 0, "value"},
		{small, "user.a", 100, 5, 0, "value"},
		{small, "user.empty", 0, 0, 0, ""},
		{small, "user.none", 100, 0, syscall.ENODATA, ""},
		{large, "user.a", 0, 3000, syscall.ERANGE, ""},
		{large, "user.a", 3000, 3000, 0, big},
		{large, "user.b", 1, 1, 0, "x"},
	} {
		buf := make([]byte, c.room)
		n, errno := c.i.Getxattr(t.Context(), c.name, buf)
		if n != c.size || errno != c.err || errno == 0 && string(buf[:n]) != c.want {
			t.Errorf("%s with %d bytes of room: %d, %v, want %d, %v", c.name, c.room, n, errno, c.size, c.err)
		}
	}
	list := func(i *inode, room int) (string, syscall.Errno) {
		buf := make([]byte, room)
		n, errno := i.Listxattr(t.Context(), buf)
		return string(buf[:min(int(n), room)]), errno
	}
	const names = "user.a\x00user.b\x00"
	if got, errno := list(large, len(names)); got != names || errno != 0 {
		t.Errorf("list = %q, %v", got, errno)
	}
	if _, errno := list(large, len(names)-1); errno != syscall.ERANGE {
		t.Errorf("list with too little room: %v, want ERANGE", errno)
	}
	fsys.owner = ownership{uid: 0, gid: -1, umask: -1}
	if n, errno := small.Getxattr(t.Context(), "system.posix_acl_access", make([]byte, 100)); errno != syscall.ENODATA {
		t.Errorf("ACL with uid=0: %d, %v, want ENODATA", n, errno)
	}
	noOperations(t, m.ref)
}

func TestInodeNumbers(t *testing.T) {
	for lead, want := range map[string]uint64{
		"\x00\x00\x00\x00\x00\x00\x00\x00": 2, "\x01\x00\x00\x00\x00\x00\x00\x00": 2, "\x02\x00\x00\x00\x00\x00\x00\x00": 2,
		"\xff\xff\xff\xff\xff\xff\xff\xff": 2, "\x00\x00\x00\x00\x00\x00\x00\x80": 1 << 63,
	} {
		var id tree.ID
		copy(id[:], lead)
		if got := inodeNumber(id); got != want {
			t.Errorf("number of %x = %d, want %d", lead, got, want)
		}
	}
}

// An object goes with the last inode that shares it.
func TestObjectsAreForgotten(t *testing.T) {
	m := newDatastore(t, storetest.Dir(""), nil)
	var o objects
	n := m.node(t, m.dir)
	var kept, again inode
	o.share(&kept, stableAttr(n), n)
	for i := range 100 {
		for range 2 {
			if !o.share(new(inode), gofs.StableAttr{Ino: uint64(i + 10)}, n) {
				t.Fatal("an identity that is not in use was refused")
			}
		}
		o.share(new(inode), stableAttr(n), n)
	}
	for deadline := time.Now().Add(10 * time.Second); o.count() > 1 || sharing(&o, kept.object) > 1; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d objects are known, and one is shared by %d inodes, want 1 and 1", o.count(), sharing(&o, kept.object))
		}
	}
	if !o.share(&again, stableAttr(n), n) || again.object != kept.object {
		t.Error("an object in use was forgotten")
	}
	if other := m.node(t, "host"); o.share(new(inode), stableAttr(n), other) {
		t.Error("an identity in use was given to another object")
	}
	runtime.KeepAlive(&kept)
}

// sharing returns how many inodes share an object.
func sharing(t *objects, o *object) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.inodes
}
