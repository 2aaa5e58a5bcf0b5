package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// file adds a regular file, or a hard link to one that was added.
func (a *archiver) file(dir int, name string, st *unix.Stat_t) error {
	if link, ok := a.links.take(st); ok {
		err := a.enc.AddHardlink(name, link)
		if !errors.Is(err, pxar.ErrEntry) {
			return a.added(name, err, catalog.HardLink)
		}
		// A file that is too far back in the archive for a link is stored anew.
	}
	fd, err := openLeased(a.ctx, dir, name)
	if err != nil {
		if a.ctx.Err() != nil {
			return err
		}
		a.warn(name, describe("open it", err))
		return nil
	}
	defer unix.Close(fd)
	if st, err = a.look(fd, unix.S_IFREG); err != nil {
		a.warn(name, err)
		return nil
	}
	return a.content(name, fd, st)
}

// content adds an open regular file.
func (a *archiver) content(name string, fd int, st *unix.Stat_t) error {
	r := newContent(a.ctx, fd, st, a.progress)
	stored, err := a.enc.AddFile(name, a.metadata(name, fd, st, true), st.Size, r)
	if ok, err := a.stored(name, err); !ok {
		return err
	}
	a.links.put(st, stored.Link)
	a.progress(1, st.Size-min(r.pos, st.Size))
	a.warn(name, a.difference(fd, st, &stored))
	return a.listed(name, a.list.add(catalog.Entry{
		Name: name, Kind: catalog.File, Size: uint64(st.Size), Mtime: int64(st.Mtim.Sec),
	}))
}

// difference says how a stored file differs from the file that was opened.
func (a *archiver) difference(fd int, before *unix.Stat_t, stored *pxar.Stored) error {
	switch {
	case stored.Cause != nil:
		return incomplete("its last %d bytes are stored as zeros: cannot read them: %w", stored.Missing, stored.Cause)
	case stored.Missing > 0:
		return fmt.Errorf("it shrank while it was read: its last %d bytes are stored as zeros", stored.Missing)
	case stored.Longer:
		return fmt.Errorf("it grew while it was read: its first %d bytes are stored", before.Size)
	}
	now, err := fstat(fd)
	if err != nil {
		return fmt.Errorf("cannot tell if it was changed while it was read: %w", err)
	}
	if now.Size != before.Size || now.Mtim != before.Mtim {
		return errors.New("it was changed while it was read: some of what is stored can be older than the rest")
	}
	return nil
}

// content reads a regular file. It does not read holes.
type content struct {
	ctx      context.Context
	fd       int
	pos      int64
	progress func(files, bytes int64)
	sparse   bool
	data     int64 // in a sparse file: where the next data begin
	hole     int64 // and where they end
}

// readahead is the size from which it pays to tell the kernel that a file is read from
// beginning to end.
const readahead = 1 << 20

func newContent(ctx context.Context, fd int, st *unix.Stat_t, progress func(files, bytes int64)) *content {
	if st.Size >= readahead {
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // this is only advice
	}
	return &content{ctx: ctx, fd: fd, progress: progress, sparse: st.Size >= readahead && st.Blocks*512 < st.Size}
}

func (c *content) Read(p []byte) (n int, err error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	if c.sparse {
		p, n = c.skip(p)
	}
	if n == 0 {
		n, err = retry(func() (int, error) { return unix.Pread(c.fd, p, c.pos) })
	}
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	c.pos += int64(n)
	c.progress(0, int64(n))
	return n, nil
}

// skip fills p with zeros as far as the hole at the present position extends. If there
// is no hole, it returns the part of p for which there is data.
func (c *content) skip(p []byte) (data []byte, zeros int) {
	if c.pos >= c.hole && !c.find() {
		return p, 0
	}
	if c.pos < c.data {
		zeros = int(min(int64(len(p)), c.data-c.pos))
		clear(p[:zeros])
		return p, zeros
	}
	return p[:min(int64(len(p)), c.hole-c.pos)], 0
}

// find finds the next data after the position. If it cannot, the whole rest is read.
func (c *content) find() bool {
	var err error
	if c.data, err = unix.Seek(c.fd, c.pos, unix.SEEK_DATA); err == nil {
		c.hole, err = unix.Seek(c.fd, c.data, unix.SEEK_HOLE)
	} else if errors.Is(err, unix.ENXIO) { // no more data: the end may have moved
		var st *unix.Stat_t
		if st, err = fstat(c.fd); err == nil {
			c.data, c.hole = st.Size, st.Size
		}
	}
	c.sparse = err == nil && c.hole > c.pos
	return c.sparse
}
