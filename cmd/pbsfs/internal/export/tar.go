package export

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// TarZstd writes the directory n and everything below it as a tar archive in the PAX
// format, compressed with zstd. In it the directory is called name. Sockets are left
// out. After an error neither the archive nor the zstd frame has an end.
func TarZstd(ctx context.Context, right store.CanRead, n *tree.Node, name string, w io.Writer) error {
	return writeTar(ctx, right, n, name, w, usual)
}

// LeftOut counts what a tar has no place for.
type LeftOut struct {
	Sockets  int64
	Projects int64 // objects in a quota project
}

// Tar is TarZstd without compression. It returns what it has left out. lost is called for
// each file that has zeros where chunks are damaged, with its path in the archive.
func Tar(ctx context.Context, right store.CanRead, n *tree.Node, name string, w io.Writer, lost func(path string, ranges []store.Range)) (LeftOut, error) {
	t := &tarSink{w: tar.NewWriter(w), right: right, buf: make([]byte, bufferSize), links: links{room: usual.links}, lost: lost}
	walk := walker{right: right, out: t, max: usual}
	if err := walk.walk(ctx, n, name); err != nil {
		return LeftOut{}, err
	}
	return t.left, t.w.Close()
}

func writeTar(ctx context.Context, right store.CanRead, n *tree.Node, name string, w io.Writer, max limits) error {
	// With concurrency, goroutines of the encoder would write to w after an error, when
	// it is no longer ours.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	t := &tarSink{w: tar.NewWriter(z), right: right, buf: make([]byte, bufferSize), links: links{room: max.links}}
	walk := walker{right: right, out: t, max: max}
	if err := walk.walk(ctx, n, name); err != nil {
		return err // z is not closed: that would end the frame
	}
	return errors.Join(t.w.Close(), z.Close())
}

// tarSink is a tar archive that is being written.
type tarSink struct {
	w     *tar.Writer
	right store.CanRead
	buf   []byte
	links links
	left  LeftOut
	lost  func(path string, ranges []store.Range) // nil if nothing is salvaged
}

func (t *tarSink) add(ctx context.Context, path string, n *tree.Node) error {
	a := n.Attr()
	h := &tar.Header{
		Format: tar.FormatPAX, Name: path, Mode: int64(a.Mode &^ unix.S_IFMT), Uid: int(a.UID), Gid: int(a.GID),
		ModTime: time.Unix(a.Mtime.Sec, int64(a.Mtime.Nsec)),
	}
	switch n.Type() {
	case unix.S_IFREG:
		return t.file(ctx, h, n)
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, path+"/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target()
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFSOCK:
		t.left.Sockets++
		return nil
	default:
		return errType(n)
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = device(a.Rdev)
	}
	return t.header(ctx, h, n)
}

// file writes a regular file, or a link to the first of its names.
func (t *tarSink) file(ctx context.Context, h *tar.Header, n *tree.Node) error {
	if first, ok := t.links.first(n, h.Name); ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return t.w.WriteHeader(h)
	}
	f, err := n.Open(ctx, t.right)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, f.Size()
	if err := t.header(ctx, h, n); err != nil {
		return err
	}
	if err := copyThrough(ctx, t.right, f, t.w, t.buf); err != nil {
		return err
	}
	if s, ok := f.(tree.Salvaged); ok && t.lost != nil && len(s.Lost()) > 0 {
		t.lost(h.Name, s.Lost())
	}
	return nil
}

// header writes the header of n with its extended attributes. Only those of nodes in
// archives were backed up; those above describe the backup.
func (t *tarSink) header(ctx context.Context, h *tar.Header, n *tree.Node) error {
	if !n.Frozen() {
		return t.w.WriteHeader(h)
	}
	attrs, err := n.ReadXattrs(ctx, t.right)
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	h.PAXRecords = make(map[string]string)
	for _, a := range attrs {
		h.PAXRecords[xattrKey(a.Name)] = string(a.Value)
		if key := aclKeys[a.Name]; key != "" {
			h.PAXRecords[key] = aclText(a.Value)
		}
	}
	if flags := fflags(n.Attr().Flags); flags != "" {
		h.PAXRecords["SCHILY.fflags"] = flags
	}
	if n.Attr().Project != 0 {
		t.left.Projects++
	}
	return t.w.WriteHeader(h)
}

// escapeKey is how GNU tar writes names of attributes: in a record, the key ends with
// the first equals sign.
var escapeKey = strings.NewReplacer("%", "%25", "=", "%3D")

// xattrKey returns the key of the record for an extended attribute.
func xattrKey(name string) string { return "SCHILY.xattr." + escapeKey.Replace(name) }

// device takes apart a device number of the kernel's FUSE interface.
func device(rdev uint32) (major, minor int64) {
	return int64(rdev >> 8 & 0xfff), int64(rdev&0xff | rdev>>12&0xfff00)
}

// links remembers the first names of files that have several.
type links struct {
	byID map[tree.ID]*linked
	room int // bytes that are left
}

// linked is a file whose other names are still to come.
type linked struct {
	first string
	left  uint32
}

// linkOverhead is about what a file takes in memory besides its path, in bytes.
const linkOverhead = 128

// first returns the path by which a file was written already. If there is none, it
// remembers this one, as long as there is room; without, a file is written again for
// each of its names.
func (l *links) first(n *tree.Node, path string) (string, bool) {
	if n.Attr().Nlink < 2 {
		return "", false
	}
	if known, ok := l.byID[n.ID()]; ok && known.first != path { // no file is a link to itself
		if known.left--; known.left == 0 {
			delete(l.byID, n.ID())
			l.room += len(known.first) + linkOverhead
		}
		return known.first, true
	}
	need := len(path) + linkOverhead
	if _, ok := l.byID[n.ID()]; ok || need > l.room {
		return "", false
	}
	if l.byID == nil {
		l.byID = make(map[tree.ID]*linked)
	}
	l.room -= need
	l.byID[n.ID()] = &linked{first: path, left: n.Attr().Nlink - 1}
	return "", false
}
