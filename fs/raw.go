package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// nowhere is a directory offset at which there is nothing to list; see
// rawFileSystem.
const nowhere = 1 << 62

// rawFileSystem stands between the kernel and go-fuse, for directory listings and for
// names that do not exist.
//
// The kernel may ask for an offset that lies within the last reply and is not the one
// after its end: after a seek, or when a signal made the kernel take only a part of the
// reply. go-fuse then repeats the reply from memory. It loses entries that do not fit
// as they did the first time, so the listing looks complete and is not. To prevent
// this, rawFileSystem first sends go-fuse a request for nowhere. After that go-fuse has
// nothing to repeat, and seeks.
type rawFileSystem struct {
	fuse.RawFileSystem

	mu   sync.Mutex        // a leaf lock
	next map[uint64]uint64 // by handle: the offset after the last reply
}

func newRaw(inner fuse.RawFileSystem) *rawFileSystem {
	return &rawFileSystem{RawFileSystem: inner, next: make(map[uint64]uint64)}
}

// String names the file system in go-fuse's messages.
func (f *rawFileSystem) String() string { return TypeName }

// Lookup finds a name. To an answer that there is none, go-fuse gives the same timeout
// everywhere, or none. Here the inode may say how long that holds, and the kernel need not
// ask again: programs look for the same missing names over and over.
func (f *rawFileSystem) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	status := f.RawFileSystem.Lookup(cancel, in, name, out)
	if status == fuse.ENOENT && out.EntryTimeout() > 0 {
		out.NodeId = 0 // to the kernel: there is nothing
		return fuse.OK
	}
	return status
}

// ReadDir lists names.
func (f *rawFileSystem) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	f.settle(cancel, in)
	status := f.RawFileSystem.ReadDir(cancel, in, out)
	f.replied(in, out)
	return status
}

// ReadDirPlus lists names with attributes.
func (f *rawFileSystem) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	f.settle(cancel, in)
	status := f.RawFileSystem.ReadDirPlus(cancel, in, out)
	f.replied(in, out)
	return status
}

// ReleaseDir forgets the handle.
func (f *rawFileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	f.mu.Lock()
	delete(f.next, in.Fh)
	f.mu.Unlock()
	f.RawFileSystem.ReleaseDir(in)
}

// settle makes go-fuse seek if the request does not continue where the last reply
// ended. The kernel sends one request for a handle at a time.
func (f *rawFileSystem) settle(cancel <-chan struct{}, in *fuse.ReadIn) {
	f.mu.Lock()
	next := f.next[in.Fh]
	f.mu.Unlock()
	if in.Offset == next {
		return
	}
	probe := *in
	probe.Offset = nowhere
	f.RawFileSystem.ReadDir(cancel, &probe, fuse.NewDirEntryList(nil, nowhere))
}

// replied notes where a reply ended.
func (f *rawFileSystem) replied(in *fuse.ReadIn, out *fuse.DirEntryList) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next[in.Fh] = out.Offset
}
