package fs

import gofs "github.com/hanwen/go-fuse/v2/fs"

// go-fuse finds methods by their signatures, and would silently ignore a method with a
// wrong one. The test names the types that must not have a method.
var (
	_ gofs.InodeEmbedder = (*inode)(nil)

	_ gofs.NodeLookuper       = (*inode)(nil)
	_ gofs.NodeGetattrer      = (*inode)(nil)
	_ gofs.NodeReadlinker     = (*inode)(nil)
	_ gofs.NodeAccesser       = (*inode)(nil)
	_ gofs.NodeStatfser       = (*inode)(nil)
	_ gofs.NodeOpener         = (*inode)(nil)
	_ gofs.NodeOpendirHandler = (*inode)(nil)
	_ gofs.NodeGetxattrer     = (*inode)(nil)
	_ gofs.NodeListxattrer    = (*inode)(nil)

	_ gofs.NodeSetattrer     = (*inode)(nil)
	_ gofs.NodeSetxattrer    = (*inode)(nil)
	_ gofs.NodeRemovexattrer = (*inode)(nil)
	_ gofs.NodeCreater       = (*inode)(nil)
	_ gofs.NodeMkdirer       = (*inode)(nil)
	_ gofs.NodeMknoder       = (*inode)(nil)
	_ gofs.NodeSymlinker     = (*inode)(nil)
	_ gofs.NodeLinker        = (*inode)(nil)
	_ gofs.NodeUnlinker      = (*inode)(nil)
	_ gofs.NodeRmdirer       = (*inode)(nil)
	_ gofs.NodeRenamer       = (*inode)(nil)

	_ gofs.FileReader    = (*fileHandle)(nil)
	_ gofs.FileLseeker   = (*fileHandle)(nil)
	_ gofs.FileFlusher   = (*fileHandle)(nil)
	_ gofs.FileFsyncer   = (*fileHandle)(nil)
	_ gofs.FileReleaser  = (*fileHandle)(nil)
	_ gofs.FileWriter    = (*fileHandle)(nil)
	_ gofs.FileAllocater = (*fileHandle)(nil)

	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
	_ gofs.FileLookuper     = (*dirHandle)(nil)
	_ gofs.FileReleasedirer = (*dirHandle)(nil)
)
