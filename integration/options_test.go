package integration

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// replaced returns what is known about an archive as options show it.
func replaced(a archive, change func(e *entry)) archive {
	out := archive{name: a.name}
	for _, e := range a.entries {
		e.Xattrs = maps.Clone(e.Xattrs)
		maps.DeleteFunc(e.Xattrs, func(name string, _ []byte) bool {
			raw, err := base64.StdEncoding.DecodeString(name)
			return err == nil && strings.HasPrefix(string(raw), "system.posix_acl_")
		})
		change(&e)
		out.entries = append(out.entries, e)
	}
	return out
}

func TestOptionsReplaceWhatIsShown(t *testing.T) {
	needRoot(t)
	want := truthOf(t, "ds-nasty", nasty)
	h, store := newHost(t), fixture(t, "ds-nasty")
	for options, change := range map[string]func(e *entry){
		"uid=1234":                       func(e *entry) { e.UID = 1234 },
		"allow_other,gid=4321,umask=027": func(e *entry) { e.GID, e.Mode = 4321, e.Mode&^0o027 },
	} {
		t.Run(options, func(t *testing.T) {
			h := &host{t: t, dir: h.dir, uid: h.uid, vars: h.vars}
			m := h.mount(store, "-o", options)
			reportDifferences(t, nasty, compare(m.path(nasty), replaced(want, change)))
			acls := 0
			for _, e := range want.entries {
				if _, ok := e.acl(t); !ok {
					continue
				}
				acls++
				_, err := lgetxattr(m.path(nasty, string(*e.Path)), aclName, make([]byte, 1024))
				wantErrno(t, "the ACL of "+string(*e.Path), err, unix.ENODATA)
			}
			if acls == 0 {
				t.Error("no file has an ACL")
			}
			var st unix.Stat_t
			must(t, lstat(m.path("host"), &st))
			shown := entry{UID: st.Uid, GID: st.Gid, Mode: st.Mode}
			change(&shown)
			if shown.UID != st.Uid || shown.GID != st.Gid || shown.Mode != st.Mode {
				t.Errorf("host: got owner %d:%d and mode %o, want what the options say", st.Uid, st.Gid, st.Mode)
			}
		})
	}
}

const aclName = "system.posix_acl_access"

// acl returns the POSIX ACL of an entry.
func (e *entry) acl(t *testing.T) (raw []byte, ok bool) {
	t.Helper()
	raw, ok = e.Xattrs[base64.StdEncoding.EncodeToString([]byte(aclName))]
	return raw, ok
}

// aclUsers returns what an ACL lets the users do that it names. See acl(5).
func aclUsers(raw []byte) map[uint32]uint16 {
	const user, mask = 0x02, 0x10
	out, limit := make(map[uint32]uint16), uint16(7)
	for e := raw[4:]; len(e) >= 8; e = e[8:] {
		perm := binary.LittleEndian.Uint16(e[2:])
		switch binary.LittleEndian.Uint16(e) {
		case user:
			out[binary.LittleEndian.Uint32(e[4:])] = perm
		case mask:
			limit = perm
		}
	}
	for id := range out {
		out[id] &= limit
	}
	return out
}

// readAs reads a file by a process of another user.
func readAs(uid uint32, path string) error {
	cmd := exec.Command("cat", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case strings.HasSuffix(strings.TrimSpace(string(out)), "Permission denied"):
		return unix.EACCES
	}
	return fmt.Errorf("%w: %s", err, out)
}

// With allow_other the permissions in the archive decide, as the kernel checks
// them.
func TestAllowOtherObeysPermissions(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-nasty"), "-o", "allow_other")
	allowed, denied := 0, 0
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		path := string(*e.Path)
		_, hasACL := e.acl(t)
		inModes := strings.HasPrefix(path, "modes/") || strings.HasPrefix(path, "owners/")
		if e.Type != "file" || hasACL || !inModes || strings.Count(path, "/") > 1 || e.UID == nobody || e.GID == nobody {
			continue
		}
		var want error
		if e.Mode&0o004 == 0 {
			want = unix.EACCES
			denied++
		} else {
			allowed++
		}
		if err := readAs(nobody, m.path(nasty, path)); !errors.Is(err, want) {
			t.Errorf("%s of mode %o, read by nobody: got %v, want %v", path, e.Mode, err, want)
		}
	}
	if allowed == 0 || denied == 0 {
		t.Errorf("got %d files that may be read and %d that may not, want some of both", allowed, denied)
	}
}

func TestAllowOtherObeysACLs(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-nasty"), "-o", "allow_other")
	checked := 0
	for _, e := range truthOf(t, "ds-nasty", nasty).entries {
		raw, ok := e.acl(t)
		if !ok || e.Type != "file" {
			continue
		}
		for uid, perm := range aclUsers(raw) {
			if uid == e.UID || uid == 0 || e.Mode&0o070 == 0 { // with no mask, the kernel does not look at ACLs
				continue
			}
			checked++
			var want error
			if perm&4 == 0 {
				want = unix.EACCES
			}
			if err := readAs(uid, m.path(nasty, string(*e.Path))); !errors.Is(err, want) {
				t.Errorf("%s, which lets user %d do %o: got %v, want %v", *e.Path, uid, perm, err, want)
			}
		}
	}
	if checked == 0 {
		t.Error("no ACL names a user")
	}
}

func TestPrivateMountOfRoot(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-basic"))
	for _, path := range []string{"host/alpha/owner", alpha + "/index.json"} {
		wantErrno(t, "nobody reading "+path, readAs(nobody, m.path(path)), unix.EACCES)
	}
}

func TestTrustedAttributesAreForRoot(t *testing.T) {
	needRoot(t)
	m := mountAt(t, fixture(t, "ds-nasty"), "-o", "allow_other")
	trusted := func(path string) (n int, err error) {
		all, err := xattrs(path)
		for name := range all {
			if strings.HasPrefix(name, "trusted.") {
				n++
			}
		}
		return n, err
	}
	for _, path := range []string{"xattr/trusted", "xattr/overlay"} {
		path = m.path(nasty, path)
		if n, err := trusted(path); n == 0 || err != nil {
			t.Errorf("%s: root sees %d trusted attributes, and %v", path, n, err)
		}
		must(t, asUser(nobody, func() error {
			n, err := trusted(path)
			if n > 0 {
				t.Errorf("%s: nobody sees %d trusted attributes", path, n)
			}
			return err
		}))
	}
}
