package xfs

import (
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	maxTarget    = 1024
	maxValue     = 64 << 10 // of an attribute
	targetMagic  = "XSLM"
	valueMagic   = "XARM"
	remoteHeader = 56 // of targets and of values, in v5
	remoteOffset = 4  // in it: how many bytes come before
	remoteBytes  = 8  // in it: how many come here
)

// target returns where a symbolic link points.
func (f *FS) target(r io.ReaderAt, in *inode) (string, error) {
	if in.size < 1 || in.size > maxTarget {
		return "", corrupt.At(in.off, "inode %d: link with a target of %d bytes", in.number, in.size)
	}
	k, err := in.data(f)
	if err != nil {
		return "", err
	}
	var b []byte
	if k.local != nil {
		if in.size > int64(len(k.local)) {
			return "", corrupt.At(in.off, "inode %d: target of %d bytes in %d", in.number, in.size, len(k.local))
		}
		b = k.local[:in.size]
	} else if b, err = f.remoteTarget(r, k, int(in.size)); err != nil {
		return "", err
	}
	if strings.ContainsRune(string(b), 0) {
		return "", corrupt.At(in.off, "inode %d: target with a zero byte", in.number)
	}
	return string(b), nil
}

// remoteTarget reads a target that lies in blocks. Each extent has a header.
func (f *FS) remoteTarget(r io.ReaderAt, k *fork, size int) ([]byte, error) {
	header := f.remoteHeader()
	all := (uint64(size) + uint64(f.sb.blockSize) - 1) / uint64(f.sb.blockSize)
	if f.sb.v5 { // the kernel takes one header for each block when it asks for room
		payload := uint64(f.sb.blockSize) - uint64(header)
		all = (uint64(size) + payload - 1) / payload
	}
	var target []byte
	for block := uint64(0); block < all && len(target) < size; {
		e, ok, err := k.at(r, block)
		if err != nil {
			return nil, err
		}
		if !ok || e.start > block {
			return nil, corrupt.New("target of link %d: block %d is missing", k.owner, block)
		}
		n := min(e.from(block).count, all-block)
		b, off, err := f.mapped(r, k, block, n, "target")
		if err != nil {
			return nil, err
		}
		part := b[header:min(len(b), header+size-len(target))]
		if err := f.checkRemote(b, off, k.owner, targetLayout, targetMagic, len(target), len(part)); err != nil {
			return nil, err
		}
		target, block = append(target, part...), block+n
	}
	if len(target) != size {
		return nil, corrupt.New("target of link %d: %d of %d bytes", k.owner, len(target), size)
	}
	return target, nil
}

func (f *FS) remoteHeader() int {
	if f.sb.v5 {
		return remoteHeader
	}
	return 0
}

// checkRemote verifies the header of a part of a target or of a value: done bytes of it
// come before, n are in it.
func (f *FS) checkRemote(b []byte, off int64, owner uint64, l *layout, magic string, done, n int) error {
	if !f.sb.v5 {
		return nil
	}
	if err := f.verify(b, off, owner, l); err != nil {
		return err
	}
	if string(b[:4]) != magic || be.Uint32(b[remoteOffset:]) != uint32(done) || be.Uint32(b[remoteBytes:]) != uint32(n) {
		return corrupt.At(off, "%s of inode %d: magic number %q, bytes %d + %d, not %d + %d", l.what, owner, b[:4],
			be.Uint32(b[remoteOffset:]), be.Uint32(b[remoteBytes:]), done, n)
	}
	return nil
}
