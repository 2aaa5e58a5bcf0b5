package integration

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// posixTree is what the conformance tests look at.
type posixTree struct {
	nasty, basic *mount
}

// Paths with a property that the tests need.
const (
	manyFiles = nasty + "/many" // a directory of 5,000 entries
	plainFile = nasty + "/xattr/user"
	posixDir  = nasty + "/types"
	posixLink = nasty + "/types/symlink"
	bigXattr  = nasty + "/xattr/big60k"
	diskImage = "vm/100/2023-11-14T22:30:00Z/drive-scsi0.img"
	snapDir   = "host/nasty/2023-11-14T22:13:30Z"
)

// posixTests are what POSIX and Linux promise of a read-only file system.
var posixTests = map[string]func(t *testing.T, p *posixTree){
	"SeekdirOverPages":       testSeekdirOverPages,
	"RewinddirListsAgain":    testRewinddir,
	"ListingsInParallel":     testParallelListings,
	"ListingAgreesWithStat":  testListingAgreesWithStat,
	"HolesOfImage":           testHolesOfImage,
	"HolesOfPlainFile":       testHolesOfPlainFile,
	"MmapEqualsPread":        testMmap,
	"ReadsAtEnd":             testReadsAtEnd,
	"UnalignedReads":         testUnalignedReads,
	"ReadsInParallel":        testParallelReads,
	"NoDescriptorLeaks":      testDescriptorLeak,
	"XattrSizes":             testXattrSizes,
	"LongNames":              testLongNames,
	"NamesThatAreNoText":     testNonUTF8Names,
	"ErrorsOfLookup":         testLookupErrors,
	"Access":                 testAccess,
	"StatfsIsTheDatastores":  testStatfs,
	"ReadlinkSizes":          testReadlinkSizes,
	"DeepTree":               testDeepTree,
	"OpenForWriting":         testOpenForWriting,
	"MutationsRefused":       testMutations,
	"StatOfOpenFileIsTheOne": testFstat,
}

func TestPosix(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	p := &posixTree{nasty: h.mount(fixture(t, "ds-nasty")), basic: h.mount(fixture(t, "ds-basic"))}
	for name, test := range posixTests {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

// Root can remount a mount rw. Then it is the program that refuses.
func TestMutationsRefusedAfterRemount(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-nasty"))
	tool(t, "mount", "-i", "-o", "remount,rw", m.dir)
	var st unix.Statfs_t
	must(t, statfs(m.dir, &st))
	if st.Flags&unix.ST_RDONLY != 0 {
		t.Fatal("the mount is still read-only, so this would test nothing")
	}
	p := &posixTree{nasty: m}
	t.Run("OpenForWriting", func(t *testing.T) { testOpenForWriting(t, p) })
	t.Run("MutationsRefused", func(t *testing.T) { testMutations(t, p) })
	reportDifferences(t, nasty, compare(m.path(nasty), truthOf(t, "ds-nasty", nasty)))
}

func testOpenForWriting(t *testing.T, p *posixTree) {
	file, dir := p.nasty.path(plainFile), p.nasty.path(posixDir)
	for _, c := range []struct {
		path  string
		flags int
	}{
		{file, unix.O_WRONLY},
		{file, unix.O_RDWR},
		{file, unix.O_WRONLY | unix.O_APPEND},
		{file, unix.O_WRONLY | unix.O_TRUNC},
		{file, unix.O_RDONLY | unix.O_TRUNC},
		{dir + "/new", unix.O_WRONLY | unix.O_CREAT},
		{dir + "/new", unix.O_RDWR | unix.O_CREAT | unix.O_EXCL},
		{dir + "/new", unix.O_RDONLY | unix.O_CREAT},
		{p.nasty.path(snapDir, "new"), unix.O_WRONLY | unix.O_CREAT},
		{p.nasty.path("new"), unix.O_WRONLY | unix.O_CREAT},
		{p.nasty.path(snapDir, "index.json"), unix.O_RDWR},
	} {
		fd, err := open(c.path, c.flags)
		if err == nil {
			must(t, unix.Close(fd))
		}
		wantErrno(t, fmt.Sprintf("open(%q, %#x)", c.path, c.flags), err, unix.EROFS)
	}
	// What changes nothing, by itself, is allowed.
	fd, err := open(file, unix.O_RDONLY|unix.O_CREAT)
	must(t, err)
	wantErrno(t, "fallocate of a file open for reading", unix.Fallocate(fd, 0, 0, 1), unix.EBADF)
	_, err = unix.Write(fd, []byte{0})
	wantErrno(t, "write to a file open for reading", err, unix.EBADF)
	must(t, unix.Close(fd))
}

// testMutations tries every change, in an archive, in a snapshot and above it.
func testMutations(t *testing.T, p *posixTree) {
	for _, c := range []struct{ dir, file, sub string }{
		{p.nasty.path(nasty, "xattr"), "user", "dir"},
		{p.nasty.path(snapDir), "index.json", "nasty.pxar"},
		{p.nasty.path("host", "nasty"), "owner", "2023-11-14T22:13:30Z"},
	} {
		file, sub, other := c.dir+"/"+c.file, c.dir+"/"+c.sub, c.dir+"/new"
		for what, err := range map[string]error{
			"mkdir":            unix.Mkdir(other, 0o755),
			"mknod":            unix.Mknod(other, unix.S_IFREG|0o644, 0),
			"mkfifo":           unix.Mkfifo(other, 0o644),
			"symlink":          unix.Symlink("to", other),
			"link":             unix.Link(file, other),
			"unlink":           unix.Unlink(file),
			"rmdir":            unix.Rmdir(sub),
			"rename":           unix.Rename(file, other),
			"rename of a dir":  unix.Rename(sub, other),
			"rename, exchange": unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, sub, unix.RENAME_EXCHANGE),
			"chmod":            unix.Chmod(file, 0o777),
			"chmod of a dir":   unix.Chmod(sub, 0o777),
			"chown":            unix.Lchown(file, 1, 1),
			"utimes":           unix.UtimesNanoAt(unix.AT_FDCWD, file, make([]unix.Timespec, 2), 0),
			"truncate":         unix.Truncate(file, 0),
			"setxattr":         unix.Lsetxattr(file, "user.new", []byte("x"), 0),
			"removexattr":      unix.Lremovexattr(file, "user.new"),
			"set an ACL":       unix.Lsetxattr(file, "system.posix_acl_access", minimalACL(), 0),
			"remove an ACL":    unix.Lremovexattr(file, "system.posix_acl_access"),
		} {
			wantErrno(t, what+" in "+c.dir, err, unix.EROFS)
		}
		if _, err := os.Lstat(other); !os.IsNotExist(err) {
			t.Errorf("%s: got %v, want that it does not exist", other, err)
		}
	}
}

// minimalACL is a POSIX ACL as its extended attribute has it: rw-r--r--.
func minimalACL() []byte {
	acl := []byte{2, 0, 0, 0}
	for _, e := range [][2]byte{{1, 6}, {4, 4}, {0x20, 4}} {
		acl = append(acl, e[0], 0, e[1], 0, 0xff, 0xff, 0xff, 0xff)
	}
	return acl
}
