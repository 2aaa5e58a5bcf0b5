package ext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// readSuperblock reads the superblock, or a copy of it where it is damaged, and says which.
func (fs *FS) readSuperblock(r io.ReaderAt) (backup bool, err error) {
	if fs.size < superblockOff+superblockSize {
		return false, image.ErrUnknown
	}
	p := make([]byte, superblockSize)
	if err := fs.readRaw(r, p, superblockOff, "ext superblock"); err != nil {
		return false, err
	}
	s, err := parseSuperblock(p, superblockOff)
	if err == nil {
		fs.superblock = s
		return false, nil
	}
	if !errors.Is(err, corrupt.Err) && !errors.Is(err, image.ErrUnknown) {
		return false, err
	}
	for _, off := range backupPlaces(p, fs.size) {
		s, err := fs.readBackup(r, off, p[0x68:0x78])
		if err != nil {
			return false, err
		}
		if s != nil {
			fs.superblock = s
			fs.note("the superblock is damaged: a copy of it is used")
			return true, nil
		}
	}
	return false, err
}

// backupPlaces returns where the copy in group 1 may lie: where the damaged superblock p
// says, and where it lies by default for each block size.
func backupPlaces(p []byte, size int64) []int64 {
	le := binary.LittleEndian
	var all []int64
	add := func(off int64) {
		if off >= superblockOff+superblockSize && off <= size-superblockSize {
			all = append(all, off)
		}
	}
	if logBlock, perGroup := le.Uint32(p[0x18:]), int64(le.Uint32(p[0x20:])); logBlock <= 6 && le.Uint16(p[0x38:]) == superMagic {
		add((perGroup + int64(le.Uint32(p[0x14:]))) << (10 + logBlock))
	}
	for logBlock := range 7 {
		block := int64(1024) << logBlock
		first := int64(0)
		if logBlock == 0 {
			first = block
		}
		add(first + 8*block*block)
	}
	return all
}

// readBackup returns the copy at off; nil if there is none that belongs to the damaged
// superblock: that has the same UUID. Another one may be left of an older file system.
func (fs *FS) readBackup(r io.ReaderAt, off int64, uuid []byte) (*superblock, error) {
	p := make([]byte, superblockSize)
	if err := fs.readRaw(r, p, off, "copy of the ext superblock"); err != nil {
		return nil, err
	}
	s, err := parseSuperblock(p, off)
	if err != nil || s.groupNumber != 1 || !bytes.Equal(s.uuid[:], uuid) || s.uuid == [16]byte{} {
		return nil, nil //nolint:nilerr // it is no copy, and the first error says what is wrong
	}
	if at := int64(s.firstDataBlock+s.blocksPerGroup) * int64(s.blockSize); at != off {
		return nil, nil
	}
	return s, nil
}

// readRaw reads p at off, without the log.
func (fs *FS) readRaw(r io.ReaderAt, p []byte, off int64, what string) error {
	if off < 0 || int64(len(p)) > fs.size || off > fs.size-int64(len(p)) {
		return corrupt.At(off, "%s lies behind the end of the image", what)
	}
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt.At(off, "%s: the image ends before its size", what)
	default:
		return fmt.Errorf("read %s at offset %d: %w", what, off, err)
	}
}
