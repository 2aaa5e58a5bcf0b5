package ntfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

const (
	dirMode  = 0o555
	fileMode = 0o444
	linkMode = 0o777
)

// inode is an object with all its attributes.
type inode struct {
	flags uint16
	attrs []attr
}

func (i *inode) dir() bool { return i.flags&recordIsDir != 0 }

// find returns an attribute, or its first part; nil if there is none.
func (i *inode) find(typ uint32, name string) *attr {
	for k := range i.attrs {
		if a := &i.attrs[k]; a.typ == typ && a.name == name && a.first == 0 {
			return a
		}
	}
	return nil
}

// inode returns the object with a number, which is a file reference.
func (f *FS) inode(r io.ReaderAt, number uint64) (*inode, error) {
	if i, ok := f.records.Get(number); ok {
		return i, nil
	}
	rec, err := f.readRecord(r, number&refMask)
	if err != nil {
		return nil, err
	}
	if rec.flags&recordInUse == 0 || rec.seq != uint16(number>>48) || rec.base&refMask != 0 {
		return nil, corrupt.New("record %d is not in use for what refers to it", number&refMask)
	}
	attrs, err := f.gather(r, rec, number&refMask)
	if err != nil {
		return nil, err
	}
	i := &inode{rec.flags, attrs}
	f.records.Put(number, i, i.weight(f.record))
	return i, nil
}

// weight is about how many bytes an object takes in memory.
func (i *inode) weight(record int64) int64 {
	w := record
	for _, a := range i.attrs {
		w += int64(len(a.value) + len(a.runs) + 128)
	}
	return w
}

// Inode returns the attributes of an object.
func (f *FS) Inode(r io.ReaderAt, number uint64) (*image.Inode, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	out := &image.Inode{Number: number, Nlink: i.links()}
	if std := i.find(attrStandard, ""); std != nil && len(std.value) >= 48 {
		out.Mtime = timeOf(binary.LittleEndian.Uint64(std.value[8:]))
	} else {
		return nil, corrupt.New("record %d has no standard information", number&refMask)
	}
	special, err := f.special(r, i)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", number&refMask, err)
	}
	switch {
	case special.mode&image.TypeMask == image.Symlink:
		out.Mode, out.Size = special.mode, int64(len(special.target))
	case special.mode != 0:
		out.Mode, out.Rdev = special.mode, special.device
	case i.dir():
		out.Mode = image.Dir | dirMode
	default:
		out.Mode = image.Regular | fileMode
		if data := i.find(attrData, ""); data != nil {
			out.Size = data.size
			if !data.resident {
				out.Blocks = data.compressedAlloc / 512
			}
		}
	}
	if out.Size < 0 || out.Blocks < 0 {
		return nil, corrupt.New("record %d: a size that is none", number&refMask)
	}
	return out, nil
}

// links counts the names of an object, without those for DOS.
func (i *inode) links() uint32 {
	n := uint32(0)
	for _, a := range i.attrs {
		if a.typ == attrFileName && len(a.value) >= nameHead && a.value[65] != spaceDOS {
			n++
		}
	}
	return max(n, 1)
}

// epoch is 1970 in the time of NTFS, which counts 100 ns from 1601.
const epoch = 116444736000000000

func timeOf(v uint64) image.Time {
	t := int64(v) - epoch
	sec, rest := t/10_000_000, t%10_000_000
	if rest < 0 {
		sec, rest = sec-1, rest+10_000_000
	}
	return image.Time{Sec: sec, Nsec: uint32(rest) * 100}
}

// Readlink returns the target of a symbolic link.
func (f *FS) Readlink(r io.ReaderAt, number uint64) (string, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return "", err
	}
	s, err := f.special(r, i)
	if err != nil {
		return "", fmt.Errorf("record %d: %w", number&refMask, err)
	}
	if s.mode&image.TypeMask != image.Symlink {
		return "", fmt.Errorf("record %d is no symbolic link: %w", number&refMask, fs.ErrInvalid)
	}
	return s.target, nil
}

// Open returns the content of a file.
func (f *FS) Open(r io.ReaderAt, number uint64) (image.File, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	s, err := f.special(r, i)
	switch {
	case err != nil:
		return nil, fmt.Errorf("record %d: %w", number&refMask, err)
	case i.dir(), s.mode != 0:
		return nil, fmt.Errorf("record %d is no regular file: %w", number&refMask, fs.ErrInvalid)
	case s.elsewhere != "":
		return nil, fmt.Errorf("record %d: %s: %w", number&refMask, s.elsewhere, image.ErrUnsupported)
	}
	if i.find(attrData, "") == nil {
		return newContent(&stream{cluster: f.cluster}), nil
	}
	data, err := f.streamOf(i.attrs, attrData, "")
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", number&refMask, err)
	}
	return newContent(data), nil
}

// maxXattr bounds the streams that are shown as attributes, as Linux does.
const maxXattr = 64 << 10

// Xattrs returns the other streams of an object. Those that are too large for an attribute,
// or encrypted, are left out.
func (f *FS) Xattrs(r io.ReaderAt, number uint64) ([]image.Xattr, error) {
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	var out []image.Xattr
	for k := range i.attrs {
		a := &i.attrs[k]
		if a.typ != attrData || a.name == "" || a.first != 0 || a.size > maxXattr || a.flags&flagEncrypted != 0 || strings.ContainsRune(a.name, 0) {
			continue
		}
		s, err := f.streamOf(i.attrs, attrData, a.name)
		if err != nil {
			return out, fmt.Errorf("record %d: stream %q: %w", number&refMask, a.name, err)
		}
		value := make([]byte, s.size)
		if _, err := newContent(s).ReadAt(r, value, 0); err != nil && !errors.Is(err, io.EOF) {
			return out, fmt.Errorf("record %d: stream %q: %w", number&refMask, a.name, err)
		}
		out = append(out, image.Xattr{Name: "user." + a.name, Value: value})
	}
	slices.SortFunc(out, func(a, b image.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// decodeUTF16 reads a text.
func decodeUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return image.DecodeUTF16(units)
}

var _ image.FileSystem = (*FS)(nil)
