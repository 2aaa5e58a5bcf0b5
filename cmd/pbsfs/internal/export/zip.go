package export

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Zip writes the directory n and everything below it as a zip archive, in which the
// directory is called name. Devices, pipes and sockets are left out. After an error the
// archive has no central directory.
func Zip(ctx context.Context, right store.CanRead, n *tree.Node, name string, w io.Writer) error {
	return writeZip(ctx, right, n, name, w, zipped)
}

func writeZip(ctx context.Context, right store.CanRead, n *tree.Node, name string, w io.Writer, max limits) error {
	out := &watched{w: w}
	z := newZipSink(right, out)
	walk := walker{right: right, out: z, max: max}
	err := walk.walk(ctx, n, name)
	if err == nil {
		err = z.w.Close()
	}
	if err != nil {
		out.bury()
	}
	return err
}

// watched is a writer that knows whether it was used, and whether it failed.
type watched struct {
	w            io.Writer
	used, failed bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.used = true
	n, err := w.w.Write(p)
	w.failed = w.failed || err != nil
	return n, err
}

// endSearch is more than the bytes at the end of a file in which programs look for the
// end of a zip archive: 22, and a comment of up to 65535.
const endSearch = 66 << 10

// bury makes sure that a zip that was cut off is not taken for another one. If it was cut
// off within a file that is a zip itself, or just after it, the end of that one would be
// found; so zeros follow.
func (w *watched) bury() {
	if w.used && !w.failed {
		_, _ = w.Write(make([]byte, endSearch)) // the error that counts is known already
	}
}

// zipSink is a zip archive that is being written.
type zipSink struct {
	w     *zip.Writer
	right store.CanRead
	buf   []byte
}

func newZipSink(right store.CanRead, w io.Writer) *zipSink {
	z := &zipSink{w: zip.NewWriter(w), right: right, buf: make([]byte, bufferSize)}
	var last *flate.Writer // only one file is written at a time
	z.w.RegisterCompressor(zip.Deflate, func(w io.Writer) (_ io.WriteCloser, err error) {
		if last == nil {
			last, err = flate.NewWriter(w, flate.BestSpeed)
			return last, err
		}
		last.Reset(w)
		return last, nil
	})
	return z
}

const (
	zipUnix = 3 << 8 // made on Unix: the upper half of the attributes is st_mode
	zipDir  = 0x10   // the directory bit for readers that know only DOS
)

func (z *zipSink) add(ctx context.Context, path string, n *tree.Node) error {
	h := &zip.FileHeader{
		Name: path, NonUTF8: !utf8.ValidString(path), Method: zip.Deflate, Modified: zipTime(n.Attr().Mtime),
		CreatorVersion: zipUnix, ExternalAttrs: n.Attr().Mode << 16,
	}
	switch n.Type() {
	case unix.S_IFDIR:
		h.Name += "/"
		h.ExternalAttrs |= zipDir
		_, err := z.w.CreateHeader(h)
		return err
	case unix.S_IFREG:
		return z.file(ctx, h, n)
	case unix.S_IFLNK:
		w, err := z.w.CreateHeader(h)
		if err == nil {
			_, err = io.Copy(w, strings.NewReader(n.Target()))
		}
		return err
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return nil
	}
	return errType(n)
}

func (z *zipSink) file(ctx context.Context, h *zip.FileHeader, n *tree.Node) error {
	f, err := n.Open(ctx, z.right)
	if err != nil {
		return err
	}
	w, err := z.w.CreateHeader(h)
	if err != nil {
		return err
	}
	return copyThrough(ctx, z.right, f, w, z.buf)
}

// errType is the error for an object that is none of the types there are.
func errType(n *tree.Node) error {
	return fmt.Errorf("object of type %#o: %w", n.Type(), store.ErrCorrupt)
}

// The times that a zip can have: DOS begins in 1980, and the extended timestamp is a
// signed number of 32 bits.
var (
	zipFirst = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	zipLast  = time.Unix(1<<31-1, 0).UTC()
)

// zipTime returns the time of the archive that is nearest to t.
func zipTime(t tree.Time) time.Time {
	sec := min(max(t.Sec, zipFirst.Unix()), zipLast.Unix())
	return time.Unix(sec, 0).UTC()
}
