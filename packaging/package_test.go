package packaging

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// run runs a program in the top directory of the sources, and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// files returns what is in a directory: type, permissions and contents of each file.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() {
			content, err = os.ReadFile(path)
		} else if d.Type() == fs.ModeSymlink {
			var to string
			to, err = os.Readlink(path)
			content = []byte(to)
		}
		all["/"+strings.TrimPrefix(path[len(dir):], "/")] = fmt.Sprintf("%s %s", info.Mode(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// deb makes the package for an architecture, and returns its path.
func deb(t *testing.T, out, arch string) string {
	t.Helper()
	run(t, "make", "deb", "OUT="+out, "ARCHES="+arch)
	return made(t, out, arch)
}

// own is the package for this machine, which several tests look at.
var own struct {
	once sync.Once
	out  string // where it was made, by the first test that wants it
}

func TestMain(m *testing.M) {
	code := m.Run()
	if own.out != "" {
		_ = os.RemoveAll(own.out)
	}
	os.Exit(code)
}

// ownDeb returns where the package for this machine was made, and its path.
func ownDeb(t *testing.T) (out, pkg string) {
	t.Helper()
	own.once.Do(func() {
		dir, err := os.MkdirTemp("", "pbsfs-package-")
		if err != nil {
			t.Fatal(err)
		}
		own.out = dir
		run(t, "make", "deb", "OUT="+dir, "ARCHES="+runtime.GOARCH)
	})
	return own.out, made(t, own.out, runtime.GOARCH)
}

// made returns the path of the package that was made.
func made(t *testing.T, out, arch string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(out, "pbsfs_*_"+arch+".deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %q, %v", found, err)
	}
	return found[0]
}

// unpacked returns a directory with what is in a package.
func unpacked(t *testing.T, pkg string) string {
	t.Helper()
	to := t.TempDir()
	run(t, "dpkg-deb", "-x", pkg, to)
	return to
}

func TestPackageIsWhatMakeInstallInstalls(t *testing.T) {
	out, pkg := ownDeb(t)
	to := filepath.Join(t.TempDir(), "root")
	run(t, "make", "install", "OUT="+out, "DESTDIR="+to, "PREFIX=/usr")
	root := unpacked(t, pkg)
	packaged, installed := files(t, root), files(t, to)
	var more []string
	for name := range packaged {
		if _, ok := installed[name]; !ok {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	want := []string{"/etc", "/etc/pbsfs", "/usr/share/doc/pbsfs/changelog.gz", "/usr/share/lintian", "/usr/share/lintian/overrides", "/usr/share/lintian/overrides/pbsfs"}
	if !slices.Equal(more, want) {
		t.Errorf("the package has, and make install has not: %q, want %q", more, want)
	}
	for name, content := range installed {
		if name != "/" && packaged[name] != content {
			t.Errorf("%s: not the same in the package (%.20q), as installed (%.20q)", name, packaged[name], content)
		}
	}
	for _, name := range []string{
		"bin/pbsfs", "share/man/man8/pbsfs.8.gz", "share/man/man8/pbsfs-mount.8.gz", "share/doc/pbsfs/README.md", "share/doc/pbsfs/copyright",
		"share/bash-completion/completions/pbsfs", "share/zsh/vendor-completions/_pbsfs", "share/fish/vendor_completions.d/pbsfs.fish",
	} {
		if packaged["/usr/"+name] == "" {
			t.Errorf("the package lacks %s", name)
		}
	}
	if !strings.HasPrefix(run(t, filepath.Join(root, "usr/bin/pbsfs"), "version"), "pbsfs ") {
		t.Error("the program in the package does not run")
	}
	if said := run(t, "lintian", "--allow-root", "--fail-on", "error", pkg); strings.Contains(said, "E: ") {
		t.Errorf("lintian: %s", said)
	}
}

// What lies in dist is installed without being named anywhere, and names the program
// where it is.
func TestWhatIsInDistIsInstalled(t *testing.T) {
	src, to := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"systemd/some.service": "ExecStart=/usr/bin/pbsfs mount\n", "udev/90-some.rules": "# rules\n", "prometheus/alerts.yml": "groups: []\n",
	} {
		path := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "make", "install", "OUT="+t.TempDir(), "DIST="+src, "DESTDIR="+to, "PREFIX=/opt/p", "HELPERS=mount.pbsfs")
	got := files(t, to)
	for name, want := range map[string]string{
		"/opt/p/lib/systemd/system/some.service":   "-rw-r--r-- ExecStart=/opt/p/bin/pbsfs mount\n",
		"/opt/p/lib/udev/rules.d/90-some.rules":    "-rw-r--r-- # rules\n",
		"/opt/p/share/pbsfs/prometheus/alerts.yml": "-rw-r--r-- groups: []\n",
		"/opt/p/sbin/mount.pbsfs":                  "Lrwxrwxrwx ../bin/pbsfs",
		"/opt/p/share/zsh/site-functions/_pbsfs":   "",
	} {
		if got[name] == "" || want != "" && got[name] != want {
			t.Errorf("%s: got %.80q, want %q", name, got[name], want)
		}
	}
}

func TestTwoBuildsOfThePackageAreEqual(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		_, pkg := ownDeb(t)
		if arch != runtime.GOARCH {
			pkg = deb(t, t.TempDir(), arch)
		}
		out := t.TempDir() // and by somebody else
		run(t, "sh", "-c", `umask 077; TZ=Asia/Tokyo LC_ALL=C.UTF-8 exec make deb "OUT=$0" "ARCHES=$1"`, out, arch)
		first, err := os.ReadFile(pkg)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(made(t, out, arch))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s: two builds are not equal", arch)
		}
		program, err := elf.Open(filepath.Join(unpacked(t, pkg), "usr/bin/pbsfs"))
		if err != nil {
			t.Fatal(err)
		}
		if program.Machine != machine {
			t.Errorf("%s: the program is for %s", arch, program.Machine)
		}
		program.Close()
	}
}

// dpkg works on a root of the test's own, with the package's scripts.
func TestPurgeLeavesNothingButWhatIsTheUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("dpkg needs root")
	}
	_, pkg := ownDeb(t)
	root := t.TempDir()
	admin := filepath.Join(root, "var/lib/dpkg")
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(admin, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("var/lib/dpkg/status")
	if err := os.Truncate(filepath.Join(admin, "status"), 0); err != nil {
		t.Fatal(err)
	}
	dpkg := func(args ...string) {
		t.Helper()
		run(t, "dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-architecture"}, args...)...)
	}
	left := func() map[string]string {
		all := files(t, root)
		maps.DeleteFunc(all, func(name, mode string) bool {
			return strings.HasPrefix(name, "/var/lib/dpkg") || strings.HasPrefix(name, "/var/log") || mode[0] == 'd' && !strings.Contains(name, "pbsfs")
		})
		return all
	}
	dpkg("-i", pkg)
	for _, name := range []string{"etc/pbsfs/datastore.cfg", "etc/pbsfs/tokens.json", "etc/pbsfs/serve.pem", "etc/pbsfs/serve.key", "etc/pbsfs/mine.key", "var/cache/pbsfs/metadata/x"} {
		write(name)
	}
	dpkg("-i", pkg) // as an upgrade does
	dpkg("--remove", "pbsfs")
	for _, name := range []string{"/etc/pbsfs/datastore.cfg", "/etc/pbsfs/mine.key"} {
		if left()[name] == "" {
			t.Errorf("removed with the package: %s", name)
		}
	}
	if left()["/usr/bin/pbsfs"] != "" {
		t.Error("the program is still there")
	}
	dpkg("--purge", "pbsfs")
	if names := slices.Sorted(maps.Keys(left())); !slices.Equal(names, []string{"/etc/pbsfs", "/etc/pbsfs/mine.key"}) {
		t.Errorf("left: %q", names)
	}
}
