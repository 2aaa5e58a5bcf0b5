package integration

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A mount goes on when nobody reads its log any more, and when somebody does not
// read on.
func TestMountOutlivesItsLog(t *testing.T) {
	store := fixture(t, "ds-basic")
	for what, leave := range map[string]func(read *os.File) error{
		"the reader goes away":     func(read *os.File) error { return read.Close() },
		"the reader does not read": func(*os.File) error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			m := h.unmounted(store)
			read, write, err := os.Pipe()
			must(t, err)
			defer read.Close()
			cmd := h.command("mount", store, m.dir, "--foreground", "--debug", "--stop-timeout", "100ms")
			cmd.Stdout, cmd.Stderr = write, write
			must(t, cmd.Start())
			_ = write.Close()
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			_, err = bufio.NewReaderSize(read, 16).ReadString('\n')
			must(t, err)
			must(t, leave(read))
			eventually(t, "the mount answering", func() error {
				_, err := os.Stat(m.path(conf))
				return err
			})
			m.process = findProcess(t, cmd.Process.Pid)
			looked := make(chan error, 1)
			go func() { // far more lines than a pipe holds
				for range 4 {
					if out, err := exec.Command("find", m.dir, "-ls").CombinedOutput(); err != nil {
						looked <- unlike("%v: %s", err, out)
						return
					}
				}
				looked <- opens(m.path(conf))
			}()
			select {
			case err := <-looked:
				must(t, err)
			case <-time.After(4 * patience):
				t.Fatal("the mount does not answer any more")
			}
			f, err := os.Open(m.path(conf)) // so that there is something to complain about
			must(t, err)
			defer f.Close()
			m.process.signal(t, syscall.SIGTERM)
			select {
			case <-done:
			case <-time.After(4 * patience):
				t.Fatal("the serving process does not end")
			}
			m.gone()
		})
	}
}
