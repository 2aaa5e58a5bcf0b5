package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// samba is a real server of Samba on this host, with a state of its own.
type samba struct {
	t    *testing.T
	dir  string
	port int
}

// shareText returns the share that docs/share.md has, with the paths of the test.
func shareText(t *testing.T, live, group string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/share.md")
	must(t, err)
	_, rest, ok := strings.Cut(string(text), "```ini\n")
	block, _, ended := strings.Cut(rest, "```")
	if !ok || !ended {
		t.Fatal("docs/share.md has no share")
	}
	out := strings.NewReplacer("/srv/files", live, "/mnt/pbs/host/fileserver", group).Replace(block)
	if strings.Count(out, live) != 1 || strings.Count(out, group) != 1 {
		t.Fatalf("the share in docs/share.md has other paths: %s", block)
	}
	return out
}

// newSamba starts a server with a share, for users of this host whose password is their
// name. It ends with the test.
func newSamba(t *testing.T, share string, users ...string) *samba {
	t.Helper()
	needRoot(t)
	for _, name := range []string{"smbd", "smbclient", "smbpasswd"} {
		needTool(t, name)
	}
	if found, err := filepath.Glob("/usr/lib/*/samba/vfs/shadow_copy2.so"); len(found) == 0 || err != nil {
		t.Skip("needs Samba's module shadow_copy2")
	}
	s := &samba{t: t, dir: subdir(t, tempDir(t), "samba"), port: freePort(t)}
	config := `[global]
	server role = standalone server
	interfaces = 127.0.0.1
	bind interfaces only = yes
	disable spoolss = yes
	load printers = no
	log file = ` + s.dir + `/log
`
	for _, name := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		config += "\t" + name + " = " + s.dir + "\n"
	}
	writeFile(t, s.config(), []byte(config+share))
	for _, user := range users {
		cmd := exec.Command("smbpasswd", "-c", s.config(), "-s", "-a", user)
		cmd.Stdin = strings.NewReader(user + "\n" + user + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("smbpasswd: %v\n%s", err, out)
		}
	}
	cmd := exec.Command("smbd", "-F", "-s", s.config(), "-p", strconv.Itoa(s.port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	must(t, cmd.Start())
	t.Cleanup(func() {
		// It leads a session of its own, with a process for each client.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait() // it was ended, as intended
	})
	eventually(t, "Samba answering", func() error {
		_, err := s.try(users[0], "ls")
		return err
	})
	return s
}

func (s *samba) config() string { return filepath.Join(s.dir, "smb.conf") }

// freePort returns a port that nobody listens at.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// try runs a command of smbclient, as a user.
func (s *samba) try(user, command string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "smbclient", "-s", s.config(), "-p", strconv.Itoa(s.port), "-U", user+"%"+user, "//127.0.0.1/files", "-c", command)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("smbclient %s: %w\n%s", command, err, out)
	}
	return string(out), nil
}

// gmt is a snapshot's name as clients of Windows say it.
func gmt(t *testing.T, snapshot string) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339, snapshot)
	must(t, err)
	return at.UTC().Format("@GMT-2006.01.02-15.04.05")
}

// version fetches the version of a file.
func (s *samba) version(user, snapshot, path string) (string, error) {
	s.t.Helper()
	got := filepath.Join(s.dir, "got")
	_ = os.Remove(got)
	if _, err := s.try(user, "get "+gmt(s.t, snapshot)+`\`+path+" got"); err != nil {
		return "", err
	}
	text, err := os.ReadFile(got)
	return string(text), err
}

// Users of Windows see the snapshots of a share, and get those files back that were theirs.
func TestPreviousVersionsOverSamba(t *testing.T) {
	const anna, bert = "backup", "games" // ordinary users that every Debian has
	needRoot(t)
	h := newHost(t)
	store := bareStore(t, tempDir(t))
	base := tempDir(t)
	live := subdir(t, base, "live")
	own := subdir(t, live, "own")
	letter := filepath.Join(live, "letter.txt")
	diary := writeFile(t, filepath.Join(own, "diary.txt"), []byte("dear diary"))
	uid, err := strconv.Atoi(strings.TrimSpace(tool(t, "id", "-u", anna)))
	must(t, err)
	must(t, os.Chown(diary, uid, uid))
	must(t, os.Chmod(diary, 0o600))
	var snapshots []string
	for _, text := range []string{"first", "second"} {
		must(t, os.WriteFile(letter, []byte(text), 0o644))
		snapshots = append(snapshots, filepath.Base(h.create("files.pxar:"+live, store, "--id", "fileserver")))
	}
	must(t, os.WriteFile(letter, []byte("third"), 0o644))
	must(t, os.Remove(diary))
	m := h.mount(store, "-o", "allow_other")
	s := newSamba(t, shareText(t, live, m.path("host/fileserver")), anna, bert)

	info, err := s.try(bert, "allinfo letter.txt")
	must(t, err)
	old, found := -1, 0
	for _, at := range []string{snapshots[1], snapshots[0]} { // the newest first
		i := strings.Index(info, gmt(t, at))
		if i > old {
			found++
		}
		old = i
	}
	if found != 2 || strings.Count(info, "@GMT-") != 2 {
		t.Errorf("the versions are not the snapshots, the newest first: %s", info)
	}
	for i, want := range []string{"first", "second"} {
		if got, err := s.version(bert, snapshots[i], "letter.txt"); got != want || err != nil {
			t.Errorf("the version of %s: got %q, %v, want %q", snapshots[i], got, err, want)
		}
	}
	if got, err := s.version(anna, snapshots[0], `own\diary.txt`); got != "dear diary" || err != nil {
		t.Errorf("a removed file, fetched by its owner: got %q, %v", got, err)
	}
	if got, err := s.version(bert, snapshots[0], `own\diary.txt`); err == nil || !strings.Contains(err.Error(), "ACCESS_DENIED") {
		t.Errorf("a file of somebody else: got %q, %v, want that access is denied", got, err)
	}
	if out, err := s.try(anna, "put smb.conf "+gmt(t, snapshots[0])+`\letter.txt`); err == nil && !strings.Contains(out, "NT_STATUS") {
		t.Errorf("a version was written to: %s", out)
	}
	if got, err := os.ReadFile(letter); string(got) != "third" || err != nil {
		t.Errorf("the share has %q, %v now", got, err)
	}
	list, err := s.try(bert, "ls "+gmt(t, snapshots[0])+`\own\*`)
	if err != nil || !strings.Contains(list, "diary.txt") {
		t.Errorf("a directory of then: got %v, %s", err, list)
	}
}
