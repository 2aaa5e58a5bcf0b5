package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// newUUID makes the disk another one that is alike in all but its UUID.
func (r *removable) newUUID() {
	r.t.Helper()
	switch r.fstype {
	case "ext4":
		tool(r.t, "tune2fs", "-U", "random", r.file)
	case "xfs":
		tool(r.t, "xfs_admin", "-U", "generate", r.file)
	case "btrfs":
		tool(r.t, "btrfstune", "-f", "-u", r.file)
	}
	now := strings.TrimSpace(tool(r.t, "blkid", "-p", "-o", "value", "-s", "UUID", r.file))
	if now == r.uuid {
		r.t.Fatalf("the UUID is still %s", now)
	}
	r.uuid = now
}

// mountAs mounts the datastore of the disk as an administrator might.
func (r *removable) mountAs(place string) {
	r.t.Helper()
	at := tempDir(r.t)
	must(r.t, unix.Mount(r.dev, at, r.fstype, unix.MS_RDONLY, ""))
	must(r.t, unix.Mount(filepath.Join(at, "store"), place, "", unix.MS_BIND, ""))
	must(r.t, unix.Unmount(at, 0))
}

// An idle tree has nothing open: its disk can be taken away, and comes back. What
// lies on another disk in its place is not shown.
func TestDiskIsTakenAwayUnderIdleTree(t *testing.T) {
	for _, fstype := range diskTypes {
		t.Run(fstype, func(t *testing.T) {
			r, h := newRemovable(t, fstype), newHost(t)
			r.configure(h)
			r.plug()
			m := h.mountBy(r.name)
			m.show()
			m.idle(nil)
			tool(t, "umount", r.place())
			r.unplug()
			must(t, m.missing())
			if got := h.run("status", r.name); !strings.Contains(got.stdout, "not plugged in") || !strings.Contains(got.stdout, "NOT THERE") {
				t.Errorf("without the disk: got this status:\n%s", got.stdout)
			}

			twin := *r
			twin.file += "2"
			tool(t, "cp", "--sparse=always", r.file, twin.file)
			twin.newUUID()
			twin.plug()
			twin.mountAs(r.place())
			must(t, m.missing())
			if got := h.run("status", r.name); !strings.Contains(got.stdout, "another disk is there") {
				t.Errorf("with another disk in its place: got this status:\n%s", got.stdout)
			}
			if len(m.logLines("another disk is there", twin.uuid, r.uuid)) == 0 {
				t.Errorf("the log does not tell of another disk")
			}
			other := h.unmounted("")
			got := h.run("mount", r.name, other.dir)
			got.want(t, 4)
			got.says(t, "another disk is there")
			tool(t, "umount", r.place())
			twin.unplug()

			r.plug()
			h.run("mount", r.name, m.dir).want(t, 0) // the tree waits for it
			m.show()
			must(t, opens(m.path(conf)))
			if got := h.run("status", r.name); strings.Contains(got.stdout, "NOT THERE") {
				t.Errorf("with the disk back: got this status:\n%s", got.stdout)
			}
			h.run("unmount", r.name).want(t, 0)
			r.unplug()
			r.nothingLeft(h)
		})
	}
}

// readAt reads a little, and says how that ended; it does not take for ever.
func readAt(f *os.File, off int64) error {
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadAt(make([]byte, 4096), off)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("it hangs")
	}
}

// dataOffset is where the image has data that is in another chunk than its
// beginning.
const dataOffset = 40 << 20

// lossImage has data throughout.
const lossImage = "ns/prod/vm/102/2023-11-14T23:24:02Z/drive-virtio1.img"

// readWhole reads a file to its end, and says how that ended.
func readWhole(f *os.File) error {
	return inTime(func() error {
		_, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, 1<<40))
		return err
	})
}

// A disk that was torn out gives errors, and when it is back all goes on, though
// somebody still has a file of before open.
func TestDiskIsLostUnderOpenFile(t *testing.T) {
	for _, fstype := range diskTypes {
		t.Run(fstype, func(t *testing.T) {
			r, h := newRemovable(t, fstype), newHost(t)
			r.configure(h)
			saved := r.file + ".saved"
			tool(t, "cp", "--sparse=always", r.file, saved)
			r.plug()
			m := h.mountBy(r.name, "--cache-size", "1")
			f, err := os.Open(m.path(lossImage))
			must(t, err)
			defer f.Close()

			must(t, os.Truncate(r.file, 0))
			if err := readWhole(f); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOMEDIUM) {
				t.Errorf("reading what is lost: got %v, want %v", err, unix.EIO)
			}
			h.run("status", r.name).want(t, 0)
			h.run("unmount", r.name, "--wait", "50ms").want(t, 3)

			// As udev does when a disk is gone.
			must(t, unix.Unmount(r.place(), unix.MNT_DETACH))
			must(t, m.missing())
			lost := *r
			r.file = saved
			r.plug()
			if fstype == "xfs" { // it mounts no second disk of one UUID
				must(t, f.Close())
			}
			eventually(t, "mounting the disk that is back", func() error {
				if got := h.run("mount", r.name, m.dir); got.code != 0 {
					return unlike("%s", got.stderr)
				}
				return nil
			})
			m.show()
			g, err := os.Open(m.path(lossImage))
			must(t, err)
			must(t, readWhole(g))
			must(t, g.Close())
			_ = f.Close()
			h.run("unmount", r.name).want(t, 0)
			r.unplug()
			lost.unplug()
			r.nothingLeft(h)
		})
	}
}

// weakDisk is the file of a disk, served by this test: it reads, fails, or hangs.
type weakDisk struct {
	gofs.Inode
	file *os.File

	mu    sync.Mutex
	fails bool
	hangs chan struct{} // not nil: what is read waits for it to be closed
	stuck int           // reads that had to wait
}

func (d *weakDisk) set(fails, hangs bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hangs != nil {
		close(d.hangs)
		d.hangs = nil
	}
	if d.fails = fails; hangs {
		d.hangs = make(chan struct{})
	}
}

func (d *weakDisk) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stuck
}

// Getattr says how large the disk is.
func (d *weakDisk) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	info, err := d.file.Stat()
	if err != nil {
		return syscall.EIO
	}
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(info.Size())
	return 0
}

// Open opens the disk without a cache before it.
func (d *weakDisk) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read reads, fails or hangs.
func (d *weakDisk) Read(_ context.Context, _ gofs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	hangs := d.hangs
	if hangs != nil {
		d.stuck++
	}
	d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	d.mu.Lock()
	fails := d.fails
	d.mu.Unlock()
	if fails {
		return nil, syscall.EIO
	}
	n, err := d.file.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// weaken serves the disk's file by the test from now on.
func (r *removable) weaken() *weakDisk {
	r.t.Helper()
	d, path := weakFile(r.t, r.file)
	r.file = path
	return d
}

// weakFile serves a file by the test, until that ends, and returns where.
func weakFile(t *testing.T, path string) (*weakDisk, string) {
	t.Helper()
	needFUSE(t)
	f, err := os.Open(path)
	must(t, err)
	d, dir := &weakDisk{file: f}, tempDir(t)
	root := &gofs.Inode{}
	server, err := gofs.Mount(dir, root, &gofs.Options{
		MountOptions: fuse.MountOptions{Name: "weak", FsName: "weak"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("disk", root.NewPersistentInode(ctx, d, gofs.StableAttr{Mode: syscall.S_IFREG}), true)
		},
	})
	must(t, err)
	t.Cleanup(func() {
		d.set(true, false)
		eventually(t, "unmounting the disk's file", server.Unmount)
		server.Wait()
		must(t, f.Close())
	})
	return d, filepath.Join(dir, "disk")
}

// A disk that gives errors, or no answer, hinders those who need what is on it,
// and nobody else.
func TestDiskFailsOrHangs(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	d := r.weaken()
	r.dev = strings.TrimSpace(tool(t, "losetup", "--find", "--show", "--read-only", r.file))
	t.Cleanup(func() {
		d.set(true, false)
		if r.dev != "" {
			_ = unix.Unmount(r.place(), unix.MNT_DETACH)
			r.unplug()
		}
	})
	m := h.mountBy(r.name)
	m.show()
	image, err := os.Open(m.path(diskImage))
	must(t, err)
	defer image.Close()
	must(t, readAt(image, 0))

	d.set(false, true)
	readers := []*actor{}
	for i := range 3 {
		readers = append(readers, startActor(t, "attempt", m.path(diskImage), fmt.Sprint(dataOffset+i<<12)))
	}
	eventually(t, "the disk hanging", func() error {
		if d.waiting() == 0 {
			return unlike("nobody has asked it")
		}
		return nil
	})
	if err := readAt(image, 4096); err != nil {
		t.Errorf("reading what was read before, while the disk hangs: %v", err)
	}
	if err := inTime(func() error { _, err := os.Lstat(m.path(alpha, "etc.pxar")); return err }); err != nil {
		t.Errorf("stat while the disk hangs: %v", err)
	}
	if err := inTime(func() error { h.run("status", r.name).want(t, 0); return nil }); err != nil {
		t.Errorf("status while the disk hangs: %v", err)
	}
	if err := inTime(func() error { h.run("unmount", r.name, "--wait", "50ms").want(t, 3); return nil }); err != nil {
		t.Errorf("unmount while the disk hangs: %v", err)
	}
	if err := inTime(func() error { h.run("device", "list").want(t, 0); return nil }); err != nil {
		t.Errorf("device list while the disk hangs: %v", err)
	}
	readers[0].signal(t, syscall.SIGKILL) // who waits can be killed
	eventually(t, "the killed reader being gone", readers[0].ended)

	d.set(true, false)
	for _, a := range readers[1:] {
		if said := a.hear(); !strings.Contains(said, unix.EIO.Error()) {
			t.Errorf("a reader of a disk that fails: got %q, want %v", said, unix.EIO)
		}
	}
	if err := readAt(image, dataOffset); !errors.Is(err, unix.EIO) {
		t.Errorf("reading from a disk that fails: got %v, want %v", err, unix.EIO)
	}
	d.set(false, false)
	eventually(t, "reading from the disk that works again", func() error { return readAt(image, dataOffset) })
	must(t, image.Close())
	for _, a := range readers[1:] {
		a.end()
	}
	h.run("unmount", r.name).want(t, 0)
	r.unplug()
	r.nothingLeft(h)
}

// inTime fails when fn takes too long.
func inTime(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * patience): // which is more than commands wait for a device
		return errors.New("it hangs")
	}
}

// A tree can be there before its disk is.
func TestStandby(t *testing.T) {
	r, h := newRemovable(t, "ext4"), newHost(t)
	r.configure(h)
	for _, args := range [][]string{
		{r.name, "--standby"},
		{r.name, "-o", "nofail"},
		{"--device", r.uuid, "--standby"},
		{"--device", r.uuid, "--path", "store", "--rescue", "-o", "nofail,ro"},
	} {
		without := args[:len(args)-1]
		if args[len(args)-2] == "-o" {
			without = args[:len(args)-2]
		}
		none := h.unmounted("")
		h.run(append(append([]string{"mount"}, without...), none.dir)...).want(t, 4)
		m := h.mountBy(args...)
		must(t, m.missing())
		m.idle(nil)
		r.plug()
		must(t, m.missing()) // it is plugged in, not mounted
		h.run(append(append([]string{"mount"}, without...), m.dir)...).want(t, 0)
		m.show()
		if strings.HasPrefix(m.store, h.dir) { // a rescue
			m.unmount()
		} else {
			h.run("unmount", r.name).want(t, 0)
		}
		m.gone()
		r.unplug()
		r.nothingLeft(h)
	}
	got := h.run("mount", "--device", "LABEL=nobody", "--standby", tempDir(t))
	got.want(t, 4)
	got.says(t, "UUID")
}

// So it can before its directory is, and while it is in maintenance.
func TestStandbyOfDirectory(t *testing.T) {
	h := newHost(t)
	base := tempDir(t)
	store := filepath.Join(base, "store")
	h.run("mount", store, tempDir(t)).want(t, 1)
	m := h.unmounted(store)
	m.run("--standby").want(t, 0)
	m.process = m.findServer()
	must(t, m.missing())
	tool(t, "cp", "-a", fixture(t, "ds-basic"), store)
	m.show()
	m.unmount()

	h.run("datastore", "add", tank, store).want(t, 0)
	h.run("maintenance", "set", tank, "offline").want(t, 0)
	h.run("mount", tank, tempDir(t)).want(t, 4)
	m = h.mountBy(tank, "-o", "nofail")
	wantErrno(t, "listing an offline datastore", func() error { _, err := os.ReadDir(m.dir); return err }(), unix.EHOSTDOWN)
	h.run("maintenance", "clear", tank).want(t, 0)
	m.show()
	m.unmount()
}
