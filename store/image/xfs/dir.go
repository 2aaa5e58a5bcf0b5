package xfs

import (
	"io"
	"strings"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/image"
)

// The space of a directory has three parts. Names lie in the first, which is all that a
// listing needs.
const (
	indexOffset = 1 << 35 // where the index begins, in bytes
	freeOffset  = 2 << 35 // where the table of free space begins
)

// maxFailures is how many blocks of a directory may fail before a listing gives up.
const maxFailures = 64

// directory is a directory that is being read.
type directory struct {
	fs   *FS
	in   *inode
	fork *fork
	per  uint64 // blocks of the file system in a block of the directory
}

func newDirectory(f *FS, in *inode) (*directory, error) {
	k, err := in.data(f)
	if err != nil {
		return nil, err
	}
	return &directory{f, in, k, uint64(f.sb.dirSize / f.sb.blockSize)}, nil
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// types are the types of objects by their number in an entry.
var types = [...]uint32{
	1: image.Regular, 2: image.Dir, 3: image.CharDevice, 4: image.BlockDevice, 5: image.Fifo, 6: image.Socket, 7: image.Symlink,
}

func entryType(n uint8) uint32 {
	if int(n) < len(types) {
		return types[n]
	}
	return 0
}

// entries lists the directory. What could be read comes with the error.
func (d *directory) entries(r io.ReaderAt) ([]image.Entry, error) {
	var all []image.Entry
	var p problems
	seen := map[string]bool{}
	emit := func(e image.Entry, off int64) {
		switch {
		case !validName(e.Name):
			p.add(corrupt.At(off, "directory %d: name %.300q", d.in.number, e.Name))
		case seen[e.Name]:
			p.add(corrupt.At(off, "directory %d: a second entry %.300q", d.in.number, e.Name))
		default:
			seen[e.Name] = true
			all = append(all, e)
		}
	}
	if d.fork.local != nil {
		p.add(d.shortForm(emit))
		return all, p.err()
	}
	failures := 0
	d.blocks(r, func(b dataBlock, err error) bool {
		if err == nil {
			err = d.scan(b, func(e image.Entry, off int64) bool {
				emit(e, off)
				return !p.many()
			})
		}
		if err != nil {
			p.add(err)
			failures++
		}
		return failures < maxFailures && !p.many()
	})
	return all, p.err()
}

// lookup finds a name: in the index, if there is one, and else, or when that does not lead
// to it, where the names are.
func (d *directory) lookup(r io.ReaderAt, name string) (image.Entry, error) {
	if d.fork.local == nil {
		e, sure, err := d.find(r, name)
		if err == nil && (e.Name != "" || sure) {
			return e, notThere(e)
		}
		if err != nil && !isCorrupt(err) {
			return e, err
		}
	}
	return d.linear(r, name)
}

// linear finds a name among all of them.
func (d *directory) linear(r io.ReaderAt, name string) (found image.Entry, err error) {
	var p problems
	if d.fork.local != nil {
		p.add(d.shortForm(func(e image.Entry, _ int64) {
			if found.Name == "" && e.Name == name {
				found = e
			}
		}))
	} else {
		failures := 0
		d.blocks(r, func(b dataBlock, err error) bool {
			if err == nil {
				err = d.scan(b, func(e image.Entry, _ int64) bool {
					if e.Name == name {
						found = e
					}
					return found.Name == ""
				})
			}
			if err != nil {
				p.add(err)
				failures++
			}
			return failures < maxFailures && found.Name == ""
		})
	}
	if found.Name != "" {
		return found, nil
	}
	if err := p.err(); err != nil {
		return found, err
	}
	return found, notThere(found)
}

// shortForm lists a directory that is in its inode: count, whether numbers have 8 bytes,
// parent, and entries of length, two bytes of no use here, name, type, number.
func (d *directory) shortForm(emit func(e image.Entry, off int64)) error {
	off, bad := d.in.off, func(what string) error {
		return corrupt.At(d.in.off, "directory %d in its inode: %s", d.in.number, what)
	}
	b := d.fork.local
	if d.in.size < 6 || d.in.size > int64(len(b)) {
		return bad("size")
	}
	b = b[:d.in.size]
	count, width := int(b[0]), 4
	if b[1] > 0 {
		count, width = max(int(b[0]), int(b[1])), 8
	}
	if len(b) < 2+width {
		return bad("size")
	}
	b = b[2+width:]
	kind := 0
	if d.fs.sb.ftype {
		kind = 1
	}
	for range count {
		if len(b) < 3 || len(b) < 3+int(b[0])+kind+width {
			return bad("an entry leaves it")
		}
		n := int(b[0])
		e := image.Entry{Name: string(b[3 : 3+n])}
		b = b[3+n:]
		if kind == 1 {
			e.Type, b = entryType(b[0]), b[1:]
		}
		e.Number = number(b[:width])
		b = b[width:]
		emit(e, off)
	}
	if len(b) > 0 {
		return bad("bytes after the last entry")
	}
	return nil
}

// number decodes a number of an inode, which has 4 or 8 bytes.
func number(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(be.Uint32(b))
	}
	return be.Uint64(b)
}
