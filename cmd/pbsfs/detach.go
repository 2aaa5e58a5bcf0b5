package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// A mount is served by a process of its own. It runs this program, with a pipe on
// descriptor readyFD. Into the pipe it writes one text that ends with a NUL: "ready"
// and warnings, or "failed CODE TEXT". The command waits for the text and passes it on.
// The serving process gets opened keys through a pipe on secretsFD, without any
// information on how they were opened.

// readyEnv tells the serving process that there is a pipe.
const readyEnv = "PBSFS_READY_FD"

// secretsEnv tells the serving process that it gets keys.
const secretsEnv = "PBSFS_KEYS_FD"

const (
	readyFD   = 3
	secretsFD = 4
)

// readyPipe returns the pipe to the command that started this process, nil if there is
// none.
func readyPipe(getenv func(string) string) *os.File {
	if getenv(readyEnv) != strconv.Itoa(readyFD) {
		return nil
	}
	_ = os.Unsetenv(readyEnv)
	unix.CloseOnExec(readyFD)
	return os.NewFile(readyFD, "ready")
}

// detach starts the serving process and waits until the tree answers.
func (a *app) detach(ctx context.Context, o *mountOptions, s *unlock.Secrets) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	keysRead, keysWrite, err := os.Pipe()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	cmd := exec.Command(self, a.args...)
	cmd.Env = append(unlock.WithoutPassphrases(os.Environ()),
		readyEnv+"="+strconv.Itoa(readyFD), secretsEnv+"="+strconv.Itoa(secretsFD))
	cmd.ExtraFiles = []*os.File{w, keysRead}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Descriptors that this process inherited must not stay open as long as the mount
	// does, above all a pipe that a program reads to its end.
	if err := unix.CloseRange(readyFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("marking inherited descriptors: %w", err)
	}
	err = cmd.Start()
	_, _ = w.Close(), keysRead.Close()
	if err != nil {
		return fmt.Errorf("starting the process that serves the mount: %w", errors.Join(err, keysWrite.Close()))
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	if err := s.Write(keysWrite); err != nil {
		return fmt.Errorf("handing over the keys: %w", err)
	}
	line, err := bufio.NewReader(r).ReadString(0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return a.answer(ctx, strings.TrimSuffix(line, "\x00"), o, cmd)
}

// answer handles what the serving process has reported.
func (a *app) answer(ctx context.Context, line string, o *mountOptions, cmd *exec.Cmd) error {
	if warning, ok := strings.CutPrefix(line, "ready"); ok {
		fmt.Fprint(a.stderr, warning)
		// The mount is there; ask it once, as every user will do.
		if err := reach.Answers(ctx, o.mountpoint); err != nil {
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

// serveDetached serves the mount and reports the result to the command that started
// this process.
func serveDetached(ctx context.Context, a *app, o *mountOptions, s *unlock.Secrets, ready *os.File) error {
	told := false
	err := a.serve(ctx, o, s, func(warning string) error {
		told = true
		_, err := ready.WriteString("ready" + warning + "\x00")
		// The working directory would keep its file system in use.
		return errors.Join(err, ready.Close(), os.Chdir("/"))
	})
	if err != nil && !told {
		_, _ = fmt.Fprintf(ready, "failed %d %s\x00", exitCode(err), err)
		return &exitError{code: exitCode(err), text: ""}
	}
	return err
}

// takeSecrets returns the keys that were handed to this process, nil if there is no
// such pipe.
func takeSecrets(getenv func(string) string) (*unlock.Secrets, error) {
	fd, err := strconv.Atoi(getenv(secretsEnv))
	if err != nil {
		return nil, nil
	}
	_ = os.Unsetenv(secretsEnv)
	return unlock.ReadSecrets(os.NewFile(uintptr(fd), "keys"))
}

// maxHandedOver is how much a pipe holds before it is read. An ordinary user cannot
// make a pipe larger.
const maxHandedOver = 1 << 20

// reexec starts this program anew in this process, with the opened keys and without the
// passphrases: /proc shows the environment with which a program was started. It returns
// only on failure.
func (a *app) reexec(ctx context.Context, s *unlock.Secrets) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, maxHandedOver); err != nil {
		return fmt.Errorf("handing over the keys: %w", err)
	}
	if text, err := json.Marshal(s); err != nil || len(text) >= maxHandedOver {
		return errors.Join(errors.New("handing over the keys: too many"), err)
	}
	if err := s.Write(w); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD, secretsFD)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // the program that is started would not know of the signal
		return context.Cause(ctx)
	}
	env := append(unlock.WithoutPassphrases(os.Environ()), secretsEnv+"="+strconv.Itoa(fd))
	return fmt.Errorf("starting anew with the keys: %w", syscall.Exec(self, append([]string{self}, a.args...), env))
}
