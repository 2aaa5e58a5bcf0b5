package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// openFile opens a file until the test ends.
func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// wholeFile returns a file's content and an open descriptor.
func wholeFile(t *testing.T, path string) ([]byte, *os.File) {
	t.Helper()
	f := openFile(t, path)
	text, err := io.ReadAll(f)
	must(t, err)
	return text, f
}

// largeFile is a file of an archive that has several chunks.
func largeFile(t *testing.T, p *posixTree) string {
	t.Helper()
	largest := ""
	var size int64
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		if e.Type == "file" && e.Size > size {
			largest, size = string(*e.Path), e.Size
		}
	}
	if size < 1<<20 {
		t.Fatalf("the largest file has only %d bytes", size)
	}
	return p.nasty.path(nasty, largest)
}

func testHolesOfImage(t *testing.T, p *posixTree) {
	content, f := wholeFile(t, p.basic.path(diskImage))
	fd, size := int(f.Fd()), int64(len(content))
	var data, holes int64
	for off := int64(0); off < size; {
		start, err := seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			start = size
		} else {
			must(t, err)
		}
		if n := bytes.IndexFunc(content[off:start], func(r rune) bool { return r != 0 }); n >= 0 {
			t.Errorf("a hole is said to be at %d to %d, but there is data at %d", off, start, off+int64(n))
		}
		holes += start - off
		if off = start; off == size {
			break
		}
		end, err := seek(fd, off, unix.SEEK_HOLE)
		must(t, err)
		if end <= off {
			t.Fatalf("SEEK_HOLE from data at %d: got %d", off, end)
		}
		data, off = data+end-off, end
	}
	if holes == 0 || data == 0 || data+holes != size {
		t.Errorf("got %d bytes of data and %d of holes, want some of both and %d in all", data, holes, size)
	}
	if n := allocated(t, f.Name()); n != data {
		t.Errorf("st_blocks says %d bytes are allocated, SEEK_DATA %d", n, data)
	}
	checkSeekAtEnd(t, f, size)
}

func testHolesOfPlainFile(t *testing.T, p *posixTree) {
	content, f := wholeFile(t, p.nasty.path(plainFile))
	size := int64(len(content))
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
	}{{0, unix.SEEK_DATA, 0}, {0, unix.SEEK_HOLE, size}, {size - 1, unix.SEEK_DATA, size - 1}, {size - 1, unix.SEEK_HOLE, size}} {
		got, err := seek(int(f.Fd()), c.off, c.whence)
		if err != nil || got != c.want {
			t.Errorf("seek(%d, %d): got %d and %v, want %d", c.off, c.whence, got, err, c.want)
		}
	}
	checkSeekAtEnd(t, f, size)
}

// checkSeekAtEnd checks that there is neither data nor a hole at or after the
// end.
func checkSeekAtEnd(t *testing.T, f *os.File, size int64) {
	t.Helper()
	for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
		for _, off := range []int64{size, size + 1, size + 1<<40} {
			_, err := seek(int(f.Fd()), off, whence)
			wantErrno(t, fmt.Sprintf("seek(%d, %d) in a file of %d bytes", off, whence, size), err, unix.ENXIO)
		}
	}
	if got, err := f.Seek(0, io.SeekEnd); err != nil || got != size {
		t.Errorf("seek to the end: got %d and %v, want %d", got, err, size)
	}
}

func testMmap(t *testing.T, p *posixTree) {
	for _, path := range []string{largeFile(t, p), p.basic.path(diskImage)} {
		want, f := wholeFile(t, path)
		mapped, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_PRIVATE)
		if err != nil {
			t.Fatalf("mmap of %s: %v", path, err)
		}
		if !bytes.Equal(mapped, want) {
			t.Errorf("%s: what is mapped is not what is read", path)
		}
		must(t, unix.Munmap(mapped))
	}
}

func testReadsAtEnd(t *testing.T, p *posixTree) {
	for _, path := range []string{largeFile(t, p), p.nasty.path(snapDir, "index.json"), p.basic.path(diskImage), p.nasty.path(plainFile)} {
		want, f := wholeFile(t, path)
		size := int64(len(want))
		for _, off := range []int64{size, size + 1, size + 1<<33} {
			if n, err := pread(int(f.Fd()), make([]byte, 4096), off); n != 0 || err != nil {
				t.Errorf("%s: reading at %d of %d: got %d bytes and %v, want none", path, off, size, n, err)
			}
		}
		last := make([]byte, 4096)
		n, err := pread(int(f.Fd()), last, size-1)
		if n != 1 || err != nil || last[0] != want[size-1] {
			t.Errorf("%s: reading the last byte: got %d bytes and %v", path, n, err)
		}
	}
}

func testUnalignedReads(t *testing.T, p *posixTree) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, path := range []string{largeFile(t, p), p.basic.path(diskImage), p.nasty.path(snapDir, "index.json")} {
		want, f := wholeFile(t, path)
		// Without this, all reads would come from the kernel's cache.
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		for range 200 {
			off := random.IntN(len(want))
			buf := make([]byte, 1+random.IntN(300_000))
			n, err := pread(int(f.Fd()), buf, int64(off))
			wanted := want[off:min(len(want), off+len(buf))]
			if err != nil || !bytes.Equal(buf[:n], wanted) {
				t.Fatalf("%s: reading %d bytes at %d: got %d and %v, want %d or other bytes", path, len(buf), off, n, err, len(wanted))
			}
		}
	}
}

func testParallelReads(t *testing.T, p *posixTree) {
	path := largeFile(t, p)
	want, _ := wholeFile(t, path)
	const readers = 16
	var errs [readers]error
	var done sync.WaitGroup
	for i := range readers {
		done.Go(func() {
			got, err := os.ReadFile(path)
			if err == nil && !bytes.Equal(got, want) {
				err = errors.New("read other bytes")
			}
			errs[i] = err
		})
	}
	done.Wait()
	must(t, errors.Join(errs[:]...))
}

// Opening and closing leaves nothing open in the serving process. RELEASE may
// come after close has returned.
func testDescriptorLeak(t *testing.T, p *posixTree) {
	before := 0
	eventually(t, "the mount being idle", func() error {
		open := p.nasty.process.descriptors(t)
		before = len(open)
		return noneBelow(open, p.nasty.store)
	})
	for range 2000 {
		f, err := os.Open(p.nasty.path(plainFile))
		must(t, err)
		_, err = f.Read(make([]byte, 1))
		must(t, errors.Join(err, f.Close()))
	}
	eventually(t, "descriptors of the serving process being as before", func() error {
		if n := len(p.nasty.process.descriptors(t)); n > before {
			return fmt.Errorf("%d are open, before it was %d", n, before)
		}
		return nil
	})
}

func testFstat(t *testing.T, p *posixTree) {
	for _, path := range []string{p.nasty.path(plainFile), p.basic.path(diskImage), p.nasty.path(posixDir)} {
		var by, of unix.Stat_t
		must(t, lstat(path, &by))
		must(t, unix.Fstat(int(openFile(t, path).Fd()), &of))
		if by != of {
			t.Errorf("%s: fstat gives %+v, lstat %+v", path, of, by)
		}
	}
}
