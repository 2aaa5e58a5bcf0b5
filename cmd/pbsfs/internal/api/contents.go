package api

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/export"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const (
	mediaBytes = "application/octet-stream"
	mediaZip   = "application/zip"
	mediaZstd  = "application/zstd"
)

// aboutContents are the operations that look into snapshots.
func aboutContents() []*operation {
	return []*operation{
		answering("GET", "admin/datastore/{store}/catalog", token.Read, "list a directory of an archive, one level", listCatalog).with("incomplete").bounded(listings),
		sending("admin/datastore/{store}/pxar-file-download", mediaBytes+", "+mediaZip+", "+mediaZstd,
			"send a file of an archive as it is, or a directory as zip or tar.zst", token.Read, downloadFile).bounded(downloads),
		sending("admin/datastore/{store}/download-decoded", mediaBytes, "send a stored file of a snapshot, decoded", token.Read, downloadDecoded).bounded(downloads),
	}
}

// errNotAFile says that something has no content that could be sent.
var errNotAFile = errors.New("neither a file nor a directory: it has no content")

// downloadIn are the parameters of downloadFile.
type downloadIn struct {
	snapshotIn
	Path treePath `param:"filepath" doc:"base64 of /STORED-ARCHIVE-NAME/path/in/it"`
	Tar  bool     `param:"tar,optional" doc:"send a directory as tar.zst instead of zip"`
}

func downloadFile(c *call, in downloadIn) error {
	if len(in.Path) == 0 {
		return &badParam{"filepath", errors.New("names no archive")}
	}
	return c.sent(in.snapshotIn, in.Path, func(ctx context.Context, r *store.Reader, dir *tree.Node) error {
		n, err := nodeAt(ctx, r, dir, in.Path)
		if err != nil {
			return err
		}
		called := in.Path[len(in.Path)-1]
		if f, err := name.ParseFile(called); err == nil && len(in.Path) == 1 {
			called = f.ArchiveName()
		}
		switch {
		case n.Broken() != nil:
			return n.Broken()
		case n.IsDir() && in.Tar:
			return c.archive(called+".tar.zst", mediaZstd, func(w io.Writer) error { return export.TarZstd(ctx, r, n, called, w) })
		case n.IsDir():
			return c.archive(called+".zip", mediaZip, func(w io.Writer) error { return export.Zip(ctx, r, n, called, w) })
		case n.Type() != unix.S_IFREG:
			return errNotAFile
		}
		f, err := n.Open(ctx, r)
		if err != nil {
			return err
		}
		id := n.ID()
		return c.file(ctx, r, f, called, hex.EncodeToString(id[:]), time.Unix(n.Attr().Mtime.Sec, 0))
	})
}

// decodedIn are the parameters of downloadDecoded.
type decodedIn struct {
	snapshotIn
	File name.File `param:"file-name" doc:"the stored name of the file"`
}

func downloadDecoded(c *call, in decodedIn) error {
	return c.sent(in.snapshotIn, treePath{in.File.String()}, func(ctx context.Context, r *store.Reader, _ *tree.Node) error {
		s, err := in.load(ctx, r)
		if err != nil {
			return err
		}
		f, etag, err := decoded(ctx, r, s, in.File)
		if err != nil {
			return err
		}
		return c.file(ctx, r, f, in.File.Stem(), etag, s.Name().Time().Time())
	})
}

// decoded returns the content of a stored file. The tag identifies it; it is "" for what
// may change.
func decoded(ctx context.Context, r *store.Reader, s *store.Snapshot, file name.File) (f tree.File, tag string, err error) {
	switch file {
	case name.Manifest:
		return tree.Bytes(s.Manifest().Raw), "", nil
	case name.ClientLog:
		if !s.HasClientLog() {
			break
		}
		text, err := s.ReadClientLog(ctx, r)
		return tree.Bytes(text), "", err
	}
	m, ok := s.Manifest().Lookup(file)
	if !ok {
		return nil, "", missing("file", file.String(), fs.ErrNotExist)
	}
	return content(ctx, r, s, m)
}

// content returns the content of a file that the manifest lists.
func content(ctx context.Context, r *store.Reader, s *store.Snapshot, m manifest.File) (tree.File, string, error) {
	tag := hex.EncodeToString(m.Csum[:])
	if m.Name.Format() == name.Blob {
		data, err := s.ReadBlob(ctx, r, m)
		return tree.Bytes(data), tag, err
	}
	stream, err := s.Stream(m)
	if err != nil {
		return nil, "", err
	}
	return stream, tag, stream.Check(ctx, r)
}

// sent calls fn to send something of a snapshot. Meanwhile it is an operation that a
// refusal names.
func (c *call) sent(in snapshotIn, p treePath, fn func(ctx context.Context, r *store.Reader, dir *tree.Node) error) error {
	return c.held(in, func(ctx context.Context, d *opened, r *store.Reader, dir *tree.Node) error {
		snap, err := in.snapshot()
		if err != nil {
			return err
		}
		defer c.Readings.Begin(served.Reading{
			Datastore: d.Name, Identity: d.ref.Identity(), Path: path.Join(append([]string{snap.String()}, p...)...), By: c.by(),
		})()
		return fn(ctx, r, dir)
	})
}

// by says for whom something is read.
func (c *call) by() string {
	from, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil { // a Unix socket
		return c.caller.Name
	}
	return c.caller.Name + " at " + from.Addr().Unmap().String()
}

// archive sends an archive that is made on the way. Its length is not known before, so
// it ends with a mark that is missing if the archive is cut off.
func (c *call) archive(called, media string, make func(io.Writer) error) error {
	c.downloadHeader(called, media)
	if c.r.Method == http.MethodHead { // its length is not known anyway
		return nil
	}
	w := &patient{w: c.w, rc: http.NewResponseController(c.w)}
	return c.ended(w, make(w))
}

// file sends a file, or the ranges of it that are asked for.
func (c *call) file(ctx context.Context, r *store.Reader, f tree.File, called, tag string, changed time.Time) error {
	c.downloadHeader(called, mediaBytes)
	if tag != "" {
		c.w.Header().Set("ETag", `"`+tag+`"`)
	}
	content := export.NewSeeker(ctx, r, f)
	w := &patient{w: c.w, rc: http.NewResponseController(c.w)}
	http.ServeContent(w, c.r, called, changed, content)
	return c.ended(w, content.Err())
}

// ended returns the result of a download. If something went wrong after bytes were sent,
// the answer is cut off.
func (c *call) ended(w *patient, err error) error {
	if err == nil {
		err = w.err
	}
	if err == nil || !w.begun {
		return err
	}
	return errors.Join(errCutOff, err)
}

// downloadHeader says that what follows is a file, whatever it contains: a page in a
// backup must not become one of ours.
func (c *call) downloadHeader(called, media string) {
	h := c.w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": strings.ToValidUTF8(called, "\uFFFD")}))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cache-Control", "private, no-cache")
}

// writeTime is how long a client may take to read what fits into one write.
const writeTime = 30 * time.Second

// patient writes to a client as long as the client goes on reading.
type patient struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	err   error
}

func (p *patient) Header() http.Header { return p.w.Header() }

func (p *patient) WriteHeader(status int) {
	p.begun = true
	p.w.WriteHeader(status)
}

func (p *patient) Write(b []byte) (int, error) {
	p.begun = true
	_ = p.rc.SetWriteDeadline(time.Now().Add(writeTime))
	n, err := p.w.Write(b)
	if err != nil {
		p.err = err
	}
	return n, err
}
