package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A mount is served by a process of its own: this program again, with a pipe on
// descriptor readyFD. It writes one line there: "ready", or "failed CODE TEXT".
// The command waits for that line and passes it on.

// readyEnv tells the serving process that there is a pipe.
const readyEnv = "PBSFS_READY_FD"

const readyFD = 3

// readyPipe returns the pipe to the command that started this process, nil when
// there is none.
func readyPipe(getenv func(string) string) *os.File {
	if getenv(readyEnv) != strconv.Itoa(readyFD) {
		return nil
	}
	_ = os.Unsetenv(readyEnv)
	unix.CloseOnExec(readyFD)
	return os.NewFile(readyFD, "ready")
}

// detach starts the serving process and waits until the tree answers.
func (a *app) detach(o *mountOptions) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), readyEnv+"="+strconv.Itoa(readyFD))
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("starting the process that serves the mount: %w", err)
	}
	line, err := bufio.NewReader(r).ReadString(0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return answer(strings.TrimSuffix(line, "\x00"), o, cmd)
}

// answer reads what the serving process said.
func answer(line string, o *mountOptions, cmd *exec.Cmd) error {
	if line == "ready" {
		// The mount is there; ask it once, as every user will.
		if _, err := os.Lstat(o.mountpoint); err != nil {
			return fmt.Errorf("mounted, but it does not answer: %w", err)
		}
		return cmd.Process.Release()
	}
	_ = cmd.Wait()
	if rest, ok := strings.CutPrefix(line, "failed "); ok {
		code, text, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(code); err == nil {
			return &exitError{code: n, text: text}
		}
	}
	return errors.New("the process that serves the mount ended before the tree answered; its log may say why")
}

// serveDetached serves the mount and tells the command that started us how it
// went.
func serveDetached(ctx context.Context, a *app, o *mountOptions, ready *os.File) error {
	told := false
	err := a.serve(ctx, o, func() error {
		told = true
		_, err := ready.WriteString("ready\x00")
		// The working directory would keep its file system busy.
		return errors.Join(err, ready.Close(), os.Chdir("/"))
	})
	if err != nil && !told {
		_, _ = fmt.Fprintf(ready, "failed %d %s\x00", exitCode(err), err)
		return &exitError{code: exitCode(err), text: ""}
	}
	return err
}
