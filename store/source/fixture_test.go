package source

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

// stream reads the whole stream of an index of a datastore.
func stream(t *testing.T, store, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	must(t, err)
	x, err := index.ParseDynamic(file)
	must(t, err)
	var out []byte
	for i := range x.Len() {
		s := x.Span(i)
		encoded, err := os.ReadFile(filepath.Join(store, ".chunks", s.Digest.Prefix(), s.Digest.String()))
		must(t, err)
		data, err := blob.DecodeChunk(nil, encoded, int(s.End-s.Off), s.Digest, blob.AnyKind, nil)
		must(t, err)
		out = append(out, data...)
	}
	return out
}

// Trees that the official client stored, put back on disk and stored by us: the
// same archives and catalogs, byte by byte.
func TestRealTreesStoredAgain(t *testing.T) {
	fixtures := os.Getenv("PBSFS_FIXTURES")
	if fixtures == "" {
		t.Skip("PBSFS_FIXTURES names no directory with real datastores")
	}
	for store, snapshots := range map[string][]string{
		"ds-basic": {"host/alpha/2023-11-14T23:13:20Z", "host/alpha/2023-11-19T22:13:20Z", "ct/101/2023-11-15T23:13:20Z", "host/void/2023-11-15T15:10:00Z"},
		"ds-nasty": {"host/nasty/2023-11-14T22:13:30Z"},
		"ds-split": {"host/split/2023-11-14T22:30:00Z", "host/split-legacy/2023-11-15T00:10:00Z", "host/void/2023-11-15T01:00:00Z"},
	} {
		for _, snapshot := range snapshots {
			t.Run(store+"/"+snapshot, func(t *testing.T) {
				storeAgain(t, filepath.Join(fixtures, store), snapshot)
			})
		}
	}
}

// storeAgain compares the archives of a snapshot, and its catalog, which lists
// them in the order in which they were made.
func storeAgain(t *testing.T, store, snapshot string) {
	t.Helper()
	dir := filepath.Join(store, snapshot)
	files, err := os.ReadDir(dir)
	must(t, err)
	var list bytes.Buffer
	var wantList []byte
	if path := filepath.Join(dir, name.Catalog.String()); slices.ContainsFunc(files, func(e os.DirEntry) bool { return e.Name() == name.Catalog.String() }) {
		wantList = stream(t, store, path)
		// The order is that of the command line; their names come last.
		slices.SortFunc(files, func(a, b os.DirEntry) int {
			return cmp.Compare(bytes.LastIndex(wantList, []byte(a.Name())), bytes.LastIndex(wantList, []byte(b.Name())))
		})
	}
	cat := catalog.NewEncoder(&list)
	archives := 0
	for _, file := range files {
		f, err := name.ParseFile(file.Name())
		if err != nil {
			continue
		}
		want := new(archived)
		switch f.Content() {
		case name.Pxar:
		case name.PxarMeta:
			payload, _ := f.Payload()
			want.payload.Write(stream(t, store, filepath.Join(dir, payload.String())))
		default:
			continue
		}
		archives++
		want.meta.Write(stream(t, store, filepath.Join(dir, f.String())))
		compareBytes(t, f.String(), storeTree(t, restore(t, want), f.String(), cat, want.payload.Len() > 0), want)
	}
	must(t, cat.Close())
	if archives == 0 {
		t.Error("no archives")
	}
	if wantList != nil && !bytes.Equal(list.Bytes(), wantList) {
		t.Errorf("catalog is another one, of %d bytes, want %d", list.Len(), len(wantList))
	}
}

func storeTree(t *testing.T, dir, name string, cat *catalog.Encoder, split bool) *archived {
	t.Helper()
	tree, err := Open(dir)
	must(t, err)
	defer tree.Close()
	a := new(archived)
	opts := Options{Warn: func(path string, err error) { t.Errorf("%s: %v", path, err) }}
	if split {
		must(t, tree.Split(t.Context(), &a.meta, &a.payload, opts))
	} else {
		must(t, tree.Unified(t.Context(), &a.meta, cat, name, opts))
	}
	return a
}

func compareBytes(t *testing.T, name string, got, want *archived) {
	t.Helper()
	if bytes.Equal(got.meta.Bytes(), want.meta.Bytes()) && bytes.Equal(got.payload.Bytes(), want.payload.Bytes()) {
		t.Logf("%s: the same %d and %d bytes", name, got.meta.Len(), got.payload.Len())
		return
	}
	t.Errorf("%s: other bytes: %d and %d, want %d and %d", name, got.meta.Len(), got.payload.Len(), want.meta.Len(), want.payload.Len())
	order, objects := want.decode(t)
	gotOrder, gotObjects := got.decode(t)
	if !slices.Equal(order, gotOrder) {
		t.Errorf("%s: got %d entries, want %d, in another order", name, len(gotOrder), len(order))
	}
	for _, path := range order {
		if a, b := gotObjects[path], objects[path]; b.Entry != nil && !reflect.DeepEqual(a.Metadata, b.Metadata) {
			t.Errorf("%s %q: got %+v, want %+v", name, path, a.Metadata, b.Metadata)
		}
	}
}

// restore puts an archive on a file system that has all it needs, and returns
// where.
func restore(t *testing.T, a *archived) string {
	t.Helper()
	order, objects := a.decode(t)
	// Inodes of 512 bytes have room for as many attributes as the real ones
	// had: the order in which attributes are listed depends on it.
	kind, options := "ext4", []string{"-O", "ea_inode", "-I", "512", "-N", "16384"}
	for _, o := range objects {
		if o.ProjectID != 0 {
			kind, options = "xfs", nil
		}
	}
	dir := mkdir(t, fileSystem(t, kind, 600, options...), "tree")
	first := make(map[int64]string)
	for _, path := range order {
		o, at := objects[path], filepath.Join(dir, path)
		if o.Link {
			must(t, os.Link(first[o.NamePos], at))
			continue
		}
		first[o.NamePos] = at
		create(t, at, o)
		must(t, os.Lchown(at, int(o.UID), int(o.GID)))
		if o.Type() != pxar.TypeSymlink {
			must(t, unix.Chmod(at, o.Mode&0o7777))
		}
		for _, x := range o.Attributes() {
			must(t, unix.Lsetxattr(at, x.Name, x.Value, 0))
		}
		if o.ProjectID != 0 {
			setProject(t, at, o.ProjectID)
		}
	}
	// Names change the time of their directory, and flags forbid them.
	for _, path := range slices.Backward(order) {
		if o, at := objects[path], filepath.Join(dir, path); !o.Link {
			finish(t, at, o)
		}
	}
	return dir
}

func create(t *testing.T, at string, o object) {
	t.Helper()
	switch o.Type() {
	case pxar.TypeDir:
		mkdir(t, at)
	case pxar.TypeRegular:
		write(t, at, "")
		f, err := os.OpenFile(at, os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		must(t, f.Truncate(int64(len(o.data))))
		zeros := strings.Repeat("\x00", 64<<10)
		for off := 0; off < len(o.data); off += len(zeros) {
			block := o.data[off:min(off+len(zeros), len(o.data))]
			if block != zeros[:len(block)] {
				_, err := f.WriteAt([]byte(block), int64(off))
				must(t, err)
			}
		}
	case pxar.TypeSymlink:
		must(t, os.Symlink(o.Target, at))
	default:
		must(t, unix.Mknod(at, o.Mode, int(unix.Mkdev(o.Device.Major, o.Device.Minor))))
	}
}

// finish sets times and flags.
func finish(t *testing.T, at string, o object) {
	t.Helper()
	ts := unix.Timespec{Sec: o.Mtime.Sec, Nsec: int64(o.Mtime.Nsec)}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	linux := 0
	for flag := range 32 {
		if stored := pxar.LinuxFlags(1 << flag); stored != 0 && o.Flags&stored != 0 {
			linux |= 1 << flag
		}
	}
	if linux != 0 {
		setFlags(t, at, linux)
	}
}
