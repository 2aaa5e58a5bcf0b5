package integration

import (
	"context"
	"os"
	"syscall"
	"testing"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// reply answers a read of a file of a datastore, whose path in it is given. read reads
// what the file really has, as much of data as it can.
type reply func(path string, data []byte, read func([]byte) int) (int, syscall.Errno)

// below shows a datastore once more, through a file system of the test's own that answers
// reads as it likes: what a failing disk does, or a server far away. It is unmounted after
// last was called.
func below(t *testing.T, store string, r reply, last func()) string {
	t.Helper()
	needFUSE(t)
	dir := tempDir(t)
	root := &belowNode{LoopbackNode: gofs.LoopbackNode{RootData: &gofs.LoopbackRoot{Path: store}}, reply: r}
	root.RootData.RootNode = root
	server, err := gofs.Mount(dir, root, &gofs.Options{MountOptions: fuse.MountOptions{FsName: store, Name: "below", AllowOther: os.Geteuid() == 0}})
	must(t, err)
	t.Cleanup(func() {
		last()
		eventually(t, "unmounting what is below the datastore", server.Unmount)
		server.Wait()
	})
	return dir
}

// belowNode is a file or directory of a datastore.
type belowNode struct {
	gofs.LoopbackNode
	reply reply
}

// WrapChild makes whatever is below one of the same kind.
func (n *belowNode) WrapChild(_ context.Context, ops gofs.InodeEmbedder) gofs.InodeEmbedder {
	if child, ok := ops.(*gofs.LoopbackNode); ok {
		return &belowNode{LoopbackNode: gofs.LoopbackNode{RootData: child.RootData}, reply: n.reply}
	}
	return ops
}

// Open opens a file.
func (n *belowNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	f, out, errno := n.LoopbackNode.Open(ctx, flags)
	file, ok := f.(*gofs.LoopbackFile)
	if errno != 0 || !ok {
		return f, out, errno
	}
	return &belowFile{LoopbackFile: file, path: n.Path(nil), reply: n.reply}, fuse.FOPEN_DIRECT_IO, 0
}

type belowFile struct {
	*gofs.LoopbackFile
	path  string
	reply reply
}

// Read answers a read.
func (f *belowFile) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := f.reply(f.path, buf, func(data []byte) int {
		res, errno := f.LoopbackFile.Read(ctx, data, off)
		if errno != 0 {
			return 0
		}
		defer res.Done()
		got, status := res.Bytes(data)
		if !status.Ok() {
			return 0
		}
		return copy(data, got)
	})
	if errno != 0 {
		return nil, errno
	}
	return fuse.ReadResultData(buf[:n]), 0
}

// PassthroughFd keeps the kernel from reading around the answers.
func (f *belowFile) PassthroughFd() (int, bool) { return 0, false }
