package ntfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// special is what an object is if it is neither a file nor a directory.
type special struct {
	mode   uint32 // 0 if it is a file or a directory
	target string // of a symbolic link
	device image.Device
	// elsewhere says where the content of a file is if it is not in the file.
	elsewhere string
}

// The tags of reparse points.
const (
	tagMountPoint = 0xa0000003
	tagSymlink    = 0xa000000c
	tagWSLLink    = 0xa000001d
	tagWSLSocket  = 0x80000023
	tagWSLFifo    = 0x80000024
	tagWSLChar    = 0x80000025
	tagWSLBlock   = 0x80000026
	tagWOF        = 0x80000017
	tagDedup      = 0x80000013
	tagCloud      = 0x9000001a
	cloudMask     = 0xffff0fff
)

// maxReparse bounds the data of a reparse point, as Windows does.
const maxReparse = 16 << 10

// special finds out whether an object is special.
func (f *FS) special(r io.ReaderAt, i *inode) (special, error) {
	if i.find(attrReparse, "") != nil {
		b, err := f.small(r, i, attrReparse, maxReparse)
		if err != nil {
			return special{}, fmt.Errorf("reparse point: %w", err)
		}
		if len(b) < 8 {
			return special{}, corrupt.New("reparse point of %d bytes", len(b))
		}
		return f.reparse(r, i, binary.LittleEndian.Uint32(b), b[8:])
	}
	if i.dir() || !i.system() {
		return special{}, nil
	}
	return f.interix(r, i)
}

// small returns an attribute that is not large.
func (f *FS) small(r io.ReaderAt, i *inode, typ uint32, most int64) ([]byte, error) {
	s, err := f.streamOf(i.attrs, typ, "")
	if err != nil {
		return nil, err
	}
	if s.size > most {
		return nil, corrupt.New("attribute %#x has %d bytes", typ, s.size)
	}
	b := make([]byte, s.size)
	return b, s.readFull(r, b, 0)
}

// reparse says what a reparse point means.
func (f *FS) reparse(r io.ReaderAt, i *inode, tag uint32, b []byte) (special, error) {
	switch {
	case tag == tagSymlink, tag == tagMountPoint:
		target, err := windowsTarget(b, tag == tagSymlink)
		return special{mode: image.Symlink | linkMode, target: target}, err
	case tag == tagWSLLink && len(b) >= 4:
		target := string(b[4:])
		if target == "" || strings.ContainsRune(target, 0) {
			return special{}, corrupt.New("reparse point with the target %q", target)
		}
		return special{mode: image.Symlink | linkMode, target: target}, nil
	case tag == tagWSLSocket:
		return special{mode: image.Socket | fileMode}, nil
	case tag == tagWSLFifo:
		return special{mode: image.Fifo | fileMode}, nil
	case tag == tagWSLChar, tag == tagWSLBlock:
		s := special{mode: image.CharDevice | fileMode}
		if tag == tagWSLBlock {
			s.mode = image.BlockDevice | fileMode
		}
		var err error
		s.device, err = f.wslDevice(r, i)
		return s, err
	case tag == tagWOF:
		return special{elsewhere: "compressed by Windows (WOF)"}, nil
	case tag == tagDedup:
		return special{elsewhere: "deduplicated by Windows"}, nil
	case tag&cloudMask == tagCloud:
		return special{elsewhere: "perhaps in a cloud only"}, nil
	}
	return special{elsewhere: fmt.Sprintf("reparse point of the kind %#x", tag)}, nil
}

// windowsTarget returns the target of a symbolic link or a junction, with slashes. An
// absolute one keeps the letter of its drive, which says nothing here.
func windowsTarget(b []byte, symlink bool) (string, error) {
	head := 8
	if symlink {
		head = 12
	}
	if len(b) < head {
		return "", corrupt.New("reparse point of %d bytes", len(b))
	}
	off, n := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	if head+off+n > len(b) {
		return "", corrupt.New("reparse point: its target lies outside")
	}
	target := decodeUTF16(b[head+off : head+off+n])
	target = strings.TrimPrefix(target, `\??\`)
	target = strings.ReplaceAll(target, `\`, "/")
	if target == "" || strings.ContainsRune(target, 0) {
		return "", corrupt.New("reparse point with the target %q", target)
	}
	return target, nil
}

// deviceEA is the extended attribute with the number of a device.
const deviceEA = "$LXDEV"

// maxEA bounds extended attributes, as Windows does.
const maxEA = 64 << 10

// wslDevice returns the number of a device.
func (f *FS) wslDevice(r io.ReaderAt, i *inode) (image.Device, error) {
	if i.find(attrEA, "") == nil {
		return image.Device{}, nil
	}
	b, err := f.small(r, i, attrEA, maxEA)
	if err != nil {
		return image.Device{}, err
	}
	for len(b) >= 8 {
		next, nameLen, valueLen := int(binary.LittleEndian.Uint32(b)), int(b[5]), int(binary.LittleEndian.Uint16(b[6:]))
		if 8+nameLen+1+valueLen > len(b) {
			break
		}
		if v := b[8+nameLen+1:][:valueLen]; string(b[8:8+nameLen]) == deviceEA && len(v) >= 8 {
			return image.Device{Major: binary.LittleEndian.Uint32(v), Minor: binary.LittleEndian.Uint32(v[4:])}, nil
		}
		if next < 8 || next > len(b) {
			break
		}
		b = b[next:]
	}
	return image.Device{}, nil
}

// system reports whether the file belongs to the system, as the special files of Interix
// do.
func (i *inode) system() bool {
	std := i.find(attrStandard, "")
	return std != nil && len(std.value) >= 36 && std.value[32]&4 != 0
}

// The marks with which the special files of Interix begin.
const (
	interixLink  = "IntxLNK\x01"
	interixChar  = "IntxCHR\x00"
	interixBlock = "IntxBLK\x00"
	// maxInterix bounds such a file: a mark, and a target of 4096 characters.
	maxInterix = 8 + 2*4096
)

// interix says what a file of the system is if it is one of Interix.
func (f *FS) interix(r io.ReaderAt, i *inode) (special, error) {
	data := i.find(attrData, "")
	if data == nil || data.size <= 8 || data.size > maxInterix || data.flags&flagEncrypted != 0 {
		return special{}, nil
	}
	s, err := f.streamOf(i.attrs, attrData, "")
	if err != nil {
		return special{}, err
	}
	b := make([]byte, s.size)
	if _, err := newContent(s).ReadAt(r, b, 0); err != nil && !errors.Is(err, io.EOF) {
		return special{}, err
	}
	switch mark := string(b[:8]); {
	case mark == interixLink:
		target := decodeUTF16(b[8:])
		if target == "" || strings.ContainsRune(target, 0) {
			return special{}, corrupt.New("symbolic link to %q", target)
		}
		return special{mode: image.Symlink | linkMode, target: target}, nil
	case (mark == interixChar || mark == interixBlock) && len(b) >= 24:
		out := special{mode: image.CharDevice | fileMode}
		if mark == interixBlock {
			out.mode = image.BlockDevice | fileMode
		}
		out.device = image.Device{Major: uint32(binary.LittleEndian.Uint64(b[8:])), Minor: uint32(binary.LittleEndian.Uint64(b[16:]))}
		return out, nil
	}
	return special{}, nil
}
