package metadata

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A file is a header (magic number and the archive's checksum) and records. A record is
// its kind, its number, the length of its body, a checksum, and the compressed body. Of
// two records of one kind and number the later one counts.
const (
	magic        = "pbsfsmd1"
	fileHeader   = len(magic) + sha256.Size
	recordHeader = 8 + 8 + 4 + sha256.Size
	suffix       = ".metadata"

	kindPiece = 1
	kindNote  = 2

	// maxBody bounds the body of a record, compressed or not. A piece of a chunk with
	// nothing but metadata is smaller.
	maxBody = 64 << 20
)

// record is a record to be written. body is called at that time.
type record struct {
	kind, number uint64
	body         func() []byte
}

type recordKey struct{ kind, number uint64 }

// file says where the records of a file are. The zero file has no records.
type file struct {
	records map[recordKey]place
}

type place struct {
	off int64 // of the header
	len int   // of the body
}

func (c *Cache) path(a Archive) string {
	return filepath.Join(c.opts.Dir, hex.EncodeToString(a[:])+suffix)
}

// load returns the body of a record, nil if it is missing or damaged.
func (c *Cache) load(a Archive, kind, number uint64) []byte {
	if c.opts.Dir == "" {
		return nil
	}
	f, ok := c.files.Get(a)
	if !ok {
		f = c.scan(a)
		c.files.Put(a, f, 1)
	}
	at, ok := f.records[recordKey{kind, number}]
	if !ok {
		return nil
	}
	r, err := os.Open(c.path(a))
	if err != nil {
		return nil
	}
	defer r.Close()
	raw := make([]byte, recordHeader+at.len)
	if _, err := r.ReadAt(raw, at.off); err != nil {
		return nil
	}
	if k, n := parseHeader(raw); k != (recordKey{kind, number}) || n != at.len {
		return nil // another file has taken its place
	}
	sum := checksum(a, raw)
	if !bytes.Equal(sum[:], raw[20:recordHeader]) {
		return nil
	}
	body, err := decoder().DecodeAll(raw[recordHeader:], nil)
	if err != nil {
		return nil
	}
	return body
}

// checksum returns the checksum of a record: over the archive, the header
// without the checksum, and the body.
func checksum(a Archive, raw []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(a[:])
	h.Write(raw[:20])
	h.Write(raw[recordHeader:])
	return [sha256.Size]byte(h.Sum(nil))
}

func parseHeader(raw []byte) (recordKey, int) {
	return recordKey{binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:])},
		int(binary.LittleEndian.Uint32(raw[16:]))
}

// scan returns where the records of an archive's file are.
func (c *Cache) scan(a Archive) *file {
	f := &file{records: make(map[recordKey]place)}
	r, err := os.Open(c.path(a))
	if err != nil {
		return f
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f
	}
	raw := make([]byte, max(fileHeader, recordHeader))
	if _, err := r.ReadAt(raw[:fileHeader], 0); err != nil || string(raw[:len(magic)]) != magic || !bytes.Equal(raw[len(magic):fileHeader], a[:]) {
		return f
	}
	for off := int64(fileHeader); off+recordHeader <= info.Size(); {
		if _, err := r.ReadAt(raw[:recordHeader], off); err != nil {
			return f
		}
		k, n := parseHeader(raw)
		if n > maxBody || off+recordHeader+int64(n) > info.Size() {
			return f
		}
		f.records[k] = place{off: off, len: n}
		off += recordHeader + int64(n)
	}
	now := time.Now()
	_ = os.Chtimes(r.Name(), now, now) // marks the file as used now, for shrink
	return f
}

// save writes the records of an archive, together with those that its file has already.
func (c *Cache) save(a Archive, records []record) error {
	if err := os.MkdirAll(c.opts.Dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(c.opts.Dir, "new-*")
	if err != nil {
		return err
	}
	err = c.fill(tmp, a, records)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), c.path(a))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp.Name()))
	}
	return err
}

func (c *Cache) fill(w io.Writer, a Archive, records []record) error {
	if _, err := w.Write(append([]byte(magic), a[:]...)); err != nil {
		return err
	}
	fresh := make(map[recordKey]int, len(records))
	for i, r := range records {
		fresh[recordKey{r.kind, r.number}] = i
	}
	if err := c.copyOld(w, a, fresh); err != nil {
		return err
	}
	for i, r := range records {
		if fresh[recordKey{r.kind, r.number}] != i {
			continue // a later one replaces it
		}
		raw := make([]byte, recordHeader)
		binary.LittleEndian.PutUint64(raw, r.kind)
		binary.LittleEndian.PutUint64(raw[8:], r.number)
		raw = encoder().EncodeAll(r.body(), raw)
		binary.LittleEndian.PutUint32(raw[16:], uint32(len(raw)-recordHeader))
		sum := checksum(a, raw)
		copy(raw[20:], sum[:])
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	return nil
}

// copyOld copies those records of an archive's file that are not replaced.
func (c *Cache) copyOld(w io.Writer, a Archive, replaced map[recordKey]int) error {
	old := c.scan(a)
	r, err := os.Open(c.path(a))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	for k, at := range old.records {
		if _, ok := replaced[k]; ok {
			continue
		}
		if _, err := io.Copy(w, io.NewSectionReader(r, at.off, recordHeader+int64(at.len))); err != nil {
			return err
		}
	}
	return nil
}

// shrink removes the files that were used longest ago until the rest is small enough,
// and also files that were left half written.
func (c *Cache) shrink() {
	entries, err := os.ReadDir(c.opts.Dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		half, _ := filepath.Match("new-*", e.Name())
		switch {
		case half && time.Since(info.ModTime()) > time.Hour:
			_ = os.Remove(filepath.Join(c.opts.Dir, e.Name()))
		case filepath.Ext(e.Name()) == suffix:
			files = append(files, info)
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, info := range files {
		if total <= c.opts.Disk {
			return
		}
		if os.Remove(filepath.Join(c.opts.Dir, info.Name())) == nil {
			total -= info.Size()
		}
	}
}

// encoder and decoder work in the caller's goroutine and have none of their own.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic("metadata: options of the zstd encoder: " + err.Error()) // constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody))
		if err != nil {
			panic("metadata: options of the zstd decoder: " + err.Error()) // constants
		}
		return d
	})
)
