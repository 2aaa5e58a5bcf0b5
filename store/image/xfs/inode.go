package xfs

import (
	"bytes"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// Parts of an inode.
const (
	inodeMagic    = "IN"
	coreSize      = 100 // before the forks, in versions 1 and 2
	coreSizeV3    = 176
	inodeCRC      = 100
	flagRealtime  = 1 << 0 // di_flags
	flag2Bigtime  = 1 << 3 // di_flags2
	flag2Nrext64  = 1 << 4
	flag2Metadata = 1 << 5
)

// inode is an inode as it lies on the disk. It is immutable.
type inode struct {
	number   uint64
	off      int64
	b        []byte
	mode     uint32
	version  uint8
	size     int64
	blocks   uint64 // of the data, of the attributes and of their trees
	realtime bool
	flags2   uint64
}

// inode reads and verifies an inode.
func (f *FS) inode(r io.ReaderAt, number uint64) (*inode, error) {
	off, ok := f.sb.inodePosition(number)
	if !ok {
		return nil, corrupt.New("inode %d: there is no such place", number)
	}
	b, window, err := f.inodeBytes(r, off)
	if err != nil {
		return nil, err
	}
	in, err := f.decodeInode(b, off, number)
	if err == nil || !window {
		return in, err
	}
	// What was read ahead was not verified, and is not to blame.
	b = make([]byte, f.sb.inodeSize)
	if err := f.read(r, b, off); err != nil {
		return nil, err
	}
	return f.decodeInode(b, off, number)
}

// windowSize is how much is read at once where inodes lie: they lie side by side.
const windowSize = 64 << 10

// inodeBytes returns the bytes of an inode, and whether they come out of a window that
// was read for others too.
func (f *FS) inodeBytes(r io.ReaderAt, off int64) (b []byte, window bool, err error) {
	start := off &^ (windowSize - 1)
	w, ok := f.windows.Get(start)
	if !ok {
		w = make([]byte, max(0, min(windowSize, f.size-start)))
		if err := f.read(r, w, start); err != nil {
			w = nil
		}
	}
	if at := off - start; at+int64(f.sb.inodeSize) <= int64(len(w)) {
		if !ok {
			f.windows.Put(start, w, int64(len(w)))
		}
		return w[at:][:f.sb.inodeSize:f.sb.inodeSize], true, nil
	}
	b = make([]byte, f.sb.inodeSize)
	return b, false, f.read(r, b, off)
}

func (f *FS) decodeInode(b []byte, off int64, number uint64) (*inode, error) {
	bad := func(format string, args ...any) (*inode, error) {
		return nil, corrupt.At(off, "inode %d: "+format, append([]any{number}, args...)...)
	}
	in := &inode{
		number: number, off: off, b: b,
		mode:     uint32(be.Uint16(b[2:])),
		version:  b[4],
		size:     int64(be.Uint64(b[56:])),
		blocks:   be.Uint64(b[64:]),
		realtime: be.Uint16(b[90:])&flagRealtime != 0,
	}
	if string(b[:2]) != inodeMagic {
		return bad("no magic number")
	}
	if in.version < 1 || in.version > 3 || in.version == 3 != f.sb.v5 {
		return bad("version %d", in.version)
	}
	if f.sb.v5 {
		in.flags2 = be.Uint64(b[120:])
		switch {
		case !f.overlay.changed(off, int64(len(b))) && !crcFits(b, inodeCRC):
			return bad("checksum does not match")
		case be.Uint64(b[152:]) != number:
			return bad("it says that it is %d", be.Uint64(b[152:]))
		case !bytes.Equal(b[160:176], f.sb.metaUUID[:]):
			return bad("of another file system")
		}
	}
	if in.mode == 0 {
		return bad("not in use")
	}
	if in.size < 0 || in.blocks > f.sb.dataBlocks && !in.realtime {
		return bad("%d bytes in %d blocks", uint64(in.size), in.blocks)
	}
	if at := in.core() + int(b[82])*8; at >= len(b) {
		return bad("its attributes begin at %d of %d", at, len(b))
	}
	return in, in.checkFormat()
}

// checkFormat says whether objects of the type are kept in that way.
func (in *inode) checkFormat() error {
	format := in.b[5]
	ok := false
	switch in.mode & image.TypeMask {
	case image.Regular:
		ok = format == formatExtents || format == formatBtree
	case image.Dir, image.Symlink:
		ok = format == formatLocal || format == formatExtents || format == formatBtree
	case image.BlockDevice, image.CharDevice, image.Fifo, image.Socket:
		ok = format == formatDevice
	}
	if !ok {
		return corrupt.At(in.off, "inode %d: mode %o with a fork of format %d", in.number, in.mode, format)
	}
	return nil
}

func (in *inode) core() int {
	if in.version == 3 {
		return coreSizeV3
	}
	return coreSize
}

func (in *inode) is(kind uint32) bool { return in.mode&image.TypeMask == kind }

// data returns the fork with the content.
func (in *inode) data(f *FS) (*fork, error) {
	b := in.b[in.core():]
	if at := int(in.b[82]) * 8; at > 0 {
		b = b[:at]
	}
	count := uint64(be.Uint32(in.b[76:]))
	if in.flags2&flag2Nrext64 != 0 {
		count = be.Uint64(in.b[24:])
	}
	return newFork(f, in, in.b[5], b, count)
}

// attributes returns the fork with the attributes, nil if there is none.
func (in *inode) attributes(f *FS) (*fork, error) {
	at := int(in.b[82]) * 8
	if at == 0 {
		return nil, nil
	}
	count := uint64(be.Uint16(in.b[80:]))
	if in.flags2&flag2Nrext64 != 0 {
		count = uint64(be.Uint32(in.b[76:]))
	}
	return newFork(f, in, in.b[83], in.b[in.core()+at:], count)
}

// stat returns what the kernel says about an inode.
func (in *inode) stat(s *superblock) *image.Inode {
	b := in.b
	st := &image.Inode{
		Number: in.number,
		Mode:   in.mode,
		Nlink:  be.Uint32(b[16:]),
		UID:    be.Uint32(b[8:]),
		GID:    be.Uint32(b[12:]),
		Size:   in.size,
		Blocks: int64(in.blocks * uint64(s.blockSize/512)),
		Mtime:  in.time(b[40:]),
	}
	if in.version == 1 {
		st.Nlink = uint32(be.Uint16(b[6:]))
	}
	if in.is(image.CharDevice) || in.is(image.BlockDevice) {
		device := be.Uint32(b[in.core():])
		st.Rdev = image.Device{Major: device >> 18, Minor: device & (1<<18 - 1)}
	}
	return st
}

// time decodes one of the times: two numbers of 32 bits, or nanoseconds since 1901.
func (in *inode) time(b []byte) image.Time {
	if in.flags2&flag2Bigtime == 0 {
		return image.Time{Sec: int64(int32(be.Uint32(b))), Nsec: be.Uint32(b[4:])}
	}
	const second = 1_000_000_000
	t := be.Uint64(b)
	return image.Time{Sec: int64(t/second) - 1<<31, Nsec: uint32(t % second)}
}
