package integration

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this program another process of a test, which plays a role
// instead of running tests. It says "ready" and its pid, and ends with its
// standard input.
const roleEnv = "PBSFS_INTEGRATION_ROLE"

var roles = map[string]func(args []string){
	"idle":            func([]string) { ready() },
	"hold":            playHold,
	"thread":          playThread,
	"inherit":         playInherit,
	"heir":            func([]string) { ready() },
	"map":             playMap,
	"transit":         playTransit,
	"cwd":             playCwd,
	"cwd of a thread": playThreadCwd,
	"lock":            playLock,
	"proxy":           playProxy,
	"api":             func([]string) { nameDaemon(); ready() },
	"read":            playRead,
	"attempt":         playAttempt,
	"churn":           playChurn,
	"compare":         playCompare,
}

func init() {
	if play, ok := roles[os.Getenv(roleEnv)]; ok {
		play(os.Args[1:])
		os.Exit(0)
	}
}

// roleCommand prepares a process in a role.
func roleCommand(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Dir = "/"
	return cmd
}

// ready says so, and waits for the end.
func ready() {
	fmt.Println("ready", os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func do(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "another process of the test:", err)
		os.Exit(1)
	}
}

func take[T any](v T, err error) T {
	do(err)
	return v
}

// playHold holds a file open. It reads it when asked to, and says what is in it.
func playHold(args []string) {
	f := take(os.Open(args[0]))
	fmt.Println("ready", os.Getpid())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<40)); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(hex.EncodeToString(sum.Sum(nil)))
	}
	_ = f.Close() // fails where the mount is dead
}

// playThread holds a file that was opened by a thread that has ended.
func playThread(args []string) {
	type opened struct{ fd, tid int }
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		done <- opened{take(open(args[0], unix.O_RDONLY)), unix.Gettid()}
	}()
	o := <-done
	if o.tid == os.Getpid() {
		do(fmt.Errorf("thread %d is the process itself", o.tid))
	}
	for thread := fmt.Sprintf("/proc/self/task/%d", o.tid); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(thread); err != nil {
			break
		}
	}
	ready()
	do(unix.Close(o.fd))
}

// playInherit opens a file, leaves it to another process, and ends.
func playInherit(args []string) {
	heir := roleCommand("heir")
	heir.Stdin, heir.Stdout, heir.Stderr = os.Stdin, os.Stdout, os.Stderr
	heir.ExtraFiles = []*os.File{take(os.Open(args[0]))}
	do(heir.Start())
}

// playMap maps a file and closes it.
func playMap(args []string) {
	f := take(os.Open(args[0]))
	data := take(unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED))
	do(f.Close())
	ready()
	do(unix.Munmap(data))
}

// playTransit sends a descriptor to itself and does not receive it: it is open,
// and no process has it.
func playTransit(args []string) {
	f := take(os.Open(args[0]))
	pair := take(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	do(unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0))
	do(f.Close())
	ready()
}

func playCwd(args []string) {
	do(os.Chdir(args[0]))
	ready()
}

// playThreadCwd has one thread with a working directory of its own.
func playThreadCwd(args []string) {
	there := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		do(unix.Unshare(unix.CLONE_FS))
		do(unix.Chdir(args[0]))
		close(there)
		select {}
	}()
	<-there
	ready()
}

// playLock holds the exclusive lock of a file.
func playLock(args []string) {
	f := take(os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o660))
	do(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	ready()
	do(f.Close())
}

// nameDaemon gives this process the name of one of a server's daemons.
func nameDaemon() { do(os.WriteFile("/proc/self/comm", []byte("proxmox-backup-proxy"), 0)) }

// playProxy answers on the control socket of a server, and repeats what it is
// told.
func playProxy(args []string) {
	nameDaemon()
	l := take(net.Listen("unix", fmt.Sprintf("@%s/control-%d.sock", args[0], os.Getpid())))
	go func() {
		for {
			conn := take(l.Accept())
			fmt.Print(take(bufio.NewReader(conn).ReadString('\n')))
			take(fmt.Fprintln(conn, "OK: done"))
			do(conn.Close())
		}
	}()
	ready()
}

// playRead reads from a place of a file, and says when that has been done.
func playRead(args []string) {
	f := take(os.Open(args[0]))
	off := take(strconv.ParseInt(args[1], 10, 64))
	fmt.Println("ready", os.Getpid())
	take(f.ReadAt(make([]byte, 4096), off))
	fmt.Println("done")
	do(f.Close())
}

// playAttempt reads from a place of a file, and says how that ended.
func playAttempt(args []string) {
	f := take(os.Open(args[0]))
	off := take(strconv.ParseInt(args[1], 10, 64))
	fmt.Println("ready", os.Getpid())
	_, err := f.ReadAt(make([]byte, 4096), off)
	fmt.Println("ended:", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	do(f.Close())
}

// churnBeat is how long all that churn are busy, and then how long none is.
const churnBeat = 600 * time.Millisecond

// playChurn opens, reads and closes what is on a list, again and again until it
// is killed: WITNESS PATH... While something is open it has locks on two
// witnesses, which lie on either side of the file in the table of descriptors:
// in whatever order the kernel closes them when the process is killed, both are
// locked only while the file is open.
func playChurn(args []string) {
	for {
		for now := time.Now().UnixMilli(); now/churnBeat.Milliseconds()%2 == 1; now = time.Now().UnixMilli() {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
		churn(args[0], args[1+rand.IntN(len(args)-1)])
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
}

func churn(witness, path string) {
	before := take(os.Open(witness + ".before"))
	defer before.Close()
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	after := take(os.Open(witness + ".after"))
	defer after.Close()
	if before.Fd() >= f.Fd() || f.Fd() >= after.Fd() {
		do(fmt.Errorf("descriptors %d, %d, %d are not in order", before.Fd(), f.Fd(), after.Fd()))
	}
	do(againErr(func() error { return unix.Flock(int(before.Fd()), unix.LOCK_SH) }))
	do(againErr(func() error { return unix.Flock(int(after.Fd()), unix.LOCK_SH) }))
	if strings.HasSuffix(path, "/") {
		take(f.Readdirnames(-1))
	} else if _, err := f.ReadAt(make([]byte, 1), int64(rand.IntN(64<<10))); !errors.Is(err, io.EOF) {
		do(err)
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	do(unix.Flock(int(after.Fd()), unix.LOCK_UN))
	do(unix.Flock(int(before.Fd()), unix.LOCK_UN))
}

// witnesses makes the witnesses of a process, and returns what to call them.
func witnesses(dir string, i int) (string, error) {
	name := filepath.Join(dir, fmt.Sprint(i))
	for _, side := range []string{".before", ".after"} {
		if err := os.WriteFile(name+side, nil, 0o600); err != nil {
			return "", err
		}
	}
	return name, nil
}

// witnessed reports whether the process with these witnesses had a file open at
// some moment since the call.
func witnessed(name string) (bool, error) {
	for _, side := range []string{".before", ".after"} {
		free, err := flocked(name+side, unix.LOCK_EX)
		if err == nil {
			free()
			return false, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return false, err
		}
	}
	return true, nil
}
