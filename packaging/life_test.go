package packaging

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// share returns the share that docs/share.md has, with other paths.
func share(t *testing.T, live, group, archive string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/share.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```ini\n")
	block, _, ended := strings.Cut(rest, "```")
	if !ended {
		t.Fatal("docs/share.md has no share")
	}
	return strings.NewReplacer("/srv/files", live, "/mnt/pbs/host/fileserver", group, "files.pxar", archive).Replace(block)
}

// listed are the files of the machine that the package or pbsfs could have made, with what
// tells whether they were changed: not what the test, dpkg or the system writes.
func (m *machine) listed() map[string]string {
	all := make(map[string]string)
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if slices.Contains([]string{
			"/home", "/mnt", "/proc", "/sys", "/dev", "/run", "/tmp", "/was", "/var/log", "/var/lib/dpkg", "/var/lib/systemd",
			"/var/lib/samba", "/var/cache/samba", "/var/cache/ldconfig", "/var/cache/man", "/etc/samba", "/etc/fstab", "/etc/machine-id",
		}, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[name] = info.Mode().String()
		if !d.IsDir() {
			all[name] += fmt.Sprint(info.Size(), info.ModTime())
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// metrics returns what a mount shows at a socket.
func (m *machine) metrics(socket string) string {
	m.t.Helper()
	at := fmt.Sprintf("/proc/%d/root%s", m.init, socket)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", at)
	}}}
	answer, err := client.Get("http://mount/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// The life of the package on a machine, as README.md and docs tell an administrator.
func TestPackageLivesOnAFreshMachine(t *testing.T) {
	_, old := ownDeb(t)
	out := t.TempDir()
	run(t, "make", "deb", "OUT="+out, "ARCHES="+runtime.GOARCH, "VERSION=9000")
	m := newMachine(t, "passwd", "fuse3", "e2fsprogs", "samba", "samba-vfs-modules", "smbclient", "systemd-sysv", "man-db")
	m.take(old, "opt/old.deb")
	m.take(made(t, out, runtime.GOARCH), "opt/new.deb")
	m.sh("useradd --create-home anna; useradd --create-home bert; systemctl -q mask nmbd samba-ad-dc")
	before := m.listed()
	m.sh("dpkg -i /opt/old.deb")
	if got := m.sh("pbsfs version"); !strings.HasPrefix(got, "pbsfs ") {
		t.Errorf("the version: %s", got)
	}

	// A user makes a datastore, the administrator a line in fstab: so the machine starts with it.
	const group = "/mnt/backups/host/laptop"
	m.on()
	m.as("anna", "pbsfs demo demo; pbsfs unmount demo/mnt --run-dir demo/run; chmod a+x . demo")
	m.write("etc/fstab.before", m.sh("cat /etc/fstab 2>/dev/null || true"))
	m.write("etc/fstab", "/home/anna/demo/store /mnt/backups pbsfs allow_other,nofail 0 0\n")
	m.write("etc/samba/smb.conf", "[global]\n\tdisable spoolss = yes\n\tload printers = no\n\tinterfaces = lo\n"+
		share(t, "/home/anna/demo/home", group, "home.pxar"))
	m.sh("mkdir /mnt/backups")
	m.off()
	m.on()
	if got := m.sh("findmnt -no FSTYPE,OPTIONS /mnt/backups"); !strings.HasPrefix(got, "fuse.pbsfs ro,nosuid,nodev") {
		t.Errorf("the mount is %s", got)
	}
	m.sh("umount /mnt/backups; mount -a; mount -a")

	m.browse(group)
	m.restore(group)
	m.previousVersions(group)
	m.service()
	m.upgrade()
	m.purge(before)
}

// An ordinary user looks at what is theirs, and another user may not.
func (m *machine) browse(group string) {
	m.t.Helper()
	const want = "Dear reader,\nthis is the second version.\n"
	if got := m.as("anna", "cat "+group+"/latest/home.pxar/letter.txt"); got != want {
		m.t.Errorf("the letter is %q", got)
	}
	m.refused("bert", "cat "+group+"/latest/home.pxar/letter.txt", "Permission denied")
	if got := m.as("anna", "cat /mnt/backups/vm/100/latest/drive-scsi0.img.d/part/1/etc/motd"); got != "Hello from inside a disk image.\n" {
		m.t.Errorf("a file in a disk image is %q", got)
	}
	found := m.sh("pbsfs find /home/anna/demo/store host/laptop --name list.txt")
	if strings.Count(found, "list.txt") != 1 {
		m.t.Errorf("the lost file is found here: %s", found)
	}
	if got := m.sh("man -w pbsfs-mount mount.pbsfs"); strings.Count(got, "\n") != 2 {
		m.t.Errorf("the manual pages: %s", got)
	}
	if got := m.sh("bash -c '. /usr/share/bash-completion/completions/pbsfs; complete -p pbsfs'"); !strings.Contains(got, "pbsfs") {
		m.t.Errorf("completion: %s", got)
	}
}

// What is restored is what was backed up.
func (m *machine) restore(group string) {
	m.t.Helper()
	latest := filepath.Base(strings.TrimSpace(m.sh("readlink -f " + group + "/latest")))
	m.sh("pbsfs restore /home/anna/demo/store host/laptop/" + latest + "/home.pxar /home/restored")
	for _, dir := range []string{"/home/anna/demo/home", group + "/latest/home.pxar"} {
		m.sh("diff -r --no-dereference " + dir + " /home/restored/home.pxar")
		list := func(dir string) string {
			return m.sh("cd " + dir + "; find . -printf '%P %M %U %G %T@ %s %l\\n' | sed 's/ 4096 $//; s/ 0 $//' | sort")
		}
		if got, want := list("/home/restored/home.pxar"), list(dir); got != want {
			m.t.Errorf("restored:\n%sin %s:\n%s", got, dir, want)
		}
	}
}

// The owner of a share gets an old version of a file over SMB.
func (m *machine) previousVersions(group string) {
	m.t.Helper()
	m.sh("printf 'anna\\nanna\\n' | smbpasswd -s -a anna; systemctl restart smbd")
	client := "smbclient //127.0.0.1/files -U anna%anna -c "
	m.eventually("Samba answering", func() error {
		_, err := m.try("sh", "-c", client+"ls")
		return err
	})
	info := m.sh(client + "'allinfo letter.txt'")
	versions := regexp.MustCompile(`@GMT-[0-9.-]+`).FindAllString(info, -1)
	if len(versions) != 2 {
		m.t.Fatalf("the versions: %s", info)
	}
	slices.Sort(versions)
	m.sh(client + `'get ` + versions[0] + `\letter.txt /tmp/got'`)
	if got := m.sh("cat /tmp/got"); got != "Dear reader,\nthis is the first version.\n" {
		m.t.Errorf("the first version is %q", got)
	}
}

// A tree is a service: it is ready when it has started, is started anew when it hangs, shows
// its numbers, and ends when it is told to.
func (m *machine) service() {
	m.t.Helper()
	const dir, socket = "/mnt/service", "/run/pbsfs-metrics.sock"
	m.write("etc/pbsfs/mounts/demo.conf", "DATASTORE=/home/anna/demo/store\nMOUNTPOINT="+dir+"\nOPTIONS=allow_other,metrics=unix:"+socket+"\n")
	m.write("etc/systemd/system/pbsfs@.service.d/fast.conf", "[Service]\nWatchdogSec=3\nRestartSec=100ms\nTimeoutAbortSec=3\n")
	m.sh("mkdir " + dir + "; systemctl daemon-reload; systemctl start pbsfs@demo")
	m.as("anna", "cat "+dir+"/host/laptop/latest/home.pxar/letter.txt >/dev/null")
	if got := m.metrics(socket); !regexp.MustCompile(`(?m)^pbsfs_reads_total\{datastore="[^"]+"\} 1$`).MatchString(got) {
		m.t.Errorf("one read was answered; the metrics:\n%s", got)
	}
	pid := func() string { return strings.TrimSpace(m.sh("systemctl show -p MainPID --value pbsfs@demo")) }
	hung := pid()
	m.sh("kill -STOP " + hung)
	m.eventually("a hung service being started anew", func() error {
		if now := pid(); now == hung || now == "0" {
			return fmt.Errorf("its process is %s, the one that hangs %s", now, hung)
		}
		_, err := m.try("systemctl", "is-active", "-q", "pbsfs@demo")
		return err
	})
	m.as("anna", "cat "+dir+"/host/laptop/latest/home.pxar/letter.txt >/dev/null")

	m.sh("systemctl enable -q --now pbsfs-serve.socket")
	// With the network of the machine, and a client of this one.
	if got := run(m.t, "nsenter", "-t", strconv.Itoa(m.init), "--net", "curl", "-sk", "https://127.0.0.1:8017/"); !strings.Contains(got, "<title>pbsfs") {
		m.t.Errorf("pbsfs serve, asked through its socket: %s", got)
	}
	m.sh("systemctl is-active -q pbsfs-serve")
}

// Mounts outlive an upgrade, and what is started afterwards is new.
func (m *machine) upgrade() {
	m.t.Helper()
	before := m.sh("pgrep -x pbsfs | sort")
	m.sh("dpkg -i /opt/new.deb")
	if after := m.sh("pgrep -x pbsfs | sort"); after != before || strings.Count(after, "\n") < 2 {
		m.t.Errorf("the processes that serve were\n%sand are\n%s", before, after)
	}
	m.as("anna", "cat /mnt/service/host/laptop/latest/home.pxar/letter.txt /mnt/backups/host/laptop/latest/home.pxar/letter.txt >/dev/null")
	m.sh("systemctl restart pbsfs@demo; umount /mnt/backups; mount /mnt/backups; systemctl stop pbsfs@demo")
	if m.sh("findmnt -n /mnt/service || true") != "" {
		m.t.Error("the tree of a stopped service is still mounted")
	}
	m.sh("systemctl start pbsfs@demo")
}

// Nothing of the package, and nothing it made, is left.
func (m *machine) purge(before map[string]string) {
	m.t.Helper()
	m.sh("umount /mnt/backups; systemctl disable -q --now pbsfs-serve.socket; rm /etc/pbsfs/mounts/demo.conf; dpkg --purge pbsfs")
	if got := m.sh("findmnt -nt fuse.pbsfs || true; pgrep -a pbsfs || true; find /run -iname '*pbsfs*'"); got != "" {
		m.t.Errorf("this goes on: %s", got)
	}
	m.sh("mv /etc/fstab.before /etc/fstab; rm -r /etc/systemd/system/pbsfs@.service.d; systemctl daemon-reload")
	after := m.listed()
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] == "" {
			m.t.Errorf("left behind: %s", name)
		} else if before[name] != after[name] {
			m.t.Errorf("changed: %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == "" {
			m.t.Errorf("gone: %s", name)
		}
	}
}
