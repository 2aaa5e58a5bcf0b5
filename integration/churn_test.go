package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowd is many processes that churn.
type crowd struct {
	t     *testing.T
	args  [][]string // of each process
	stop  chan struct{}
	mu    sync.Mutex // guards ended
	ended []string   // processes that ended by themselves
	all   sync.WaitGroup
}

// startCrowd starts processes that open and close what is at paths. They are
// killed at random and replaced, until the crowd is dispersed.
func startCrowd(t *testing.T, n int, paths []string) *crowd {
	t.Helper()
	c := &crowd{t: t, stop: make(chan struct{})}
	dir := tempDir(t)
	for i := range n {
		witness, err := witnesses(dir, i)
		must(t, err)
		c.args = append(c.args, append([]string{witness}, paths...))
	}
	for _, args := range c.args {
		c.all.Go(func() { c.live(args) })
	}
	t.Cleanup(c.disperse)
	return c
}

// live keeps one process alive, again and again for some time.
func (c *crowd) live(args []string) {
	for {
		cmd := roleCommand("churn", args...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			c.note(err.Error())
			return
		}
		over := false
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			select {
			case <-c.stop:
				over = true
			case <-time.After(time.Duration(rand.IntN(3000)) * time.Millisecond):
			}
			_ = cmd.Process.Kill()
		}()
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			c.note(fmt.Sprintf("%v: %s", cmd.ProcessState, stderr.String()))
		}
		<-killed
		if over {
			return
		}
	}
}

func (c *crowd) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, what)
}

// disperse kills all processes. It may be called twice.
func (c *crowd) disperse() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.all.Wait()
	for _, e := range c.ended {
		c.t.Errorf("one of the crowd ended by itself: %s", e)
	}
	c.ended = nil
}

// none fails the test if one of the crowd has a file open, as its witnesses say.
func (c *crowd) none(when string) {
	c.t.Helper()
	for _, args := range c.args {
		open, err := witnessed(args[0])
		must(c.t, err)
		if open {
			c.t.Errorf("%s: a process has a file open", when)
		}
	}
}

// However many processes open, close and die meanwhile: when offline was set,
// nobody has anything open, and nothing is lost from the count.
func TestOfflineNeverMeetsOpenFile(t *testing.T) {
	needRoot(t)
	m := newTank(t, copyFixture(t, "ds-basic"))
	paths := []string{
		m.path(diskImage), m.path(images[1]), m.path(conf), m.path(alpha) + "/", m.path(alpha, "etc.pxar") + "/",
		m.path(alpha, "index.json"), m.path("ns/prod/ns/db/host/beta/2023-11-15T13:39:15Z/root.pxar") + "/",
	}
	must(t, opens(paths[0]))
	c := startCrowd(t, 64, paths)
	var set, refused int
	for i, end := 0, time.Now().Add(soakTime(t, 6)); time.Now().Before(end); i++ {
		args := []string{"maintenance", "set", tank, "offline", "--wait", fmt.Sprintf("%dms", rand.IntN(1000))}
		if i%3 == 0 {
			args = append(args, "--drain")
		}
		switch got := m.host.run(args...); got.code {
		case 0:
			set++
			c.offline(m)
		case 3:
			refused++
		default:
			t.Fatalf("%q: got exit code %d: %s", args, got.code, got.stderr)
		}
		m.host.run("maintenance", "clear", tank).want(t, 0)
		if t.Failed() {
			break
		}
	}
	t.Logf("set %d times, refused %d times", set, refused)
	if set == 0 || refused == 0 {
		t.Errorf("set %d times, refused %d times, want both: else this test cannot fail", set, refused)
	}
	c.disperse()
	m.uncounted()
	m.idle(filesOf(t, m.store))
	if s := m.host.status(); s.reads() != 0 || len(s.Handles) > 0 || len(s.Locked) > 0 || len(s.Problems) > 0 {
		t.Errorf("at the end: got the status %+v, want nothing open and no problem", s)
	}
	if text, err := os.ReadFile(m.host.operationsFile()); err != nil || string(text) != "[]" {
		t.Errorf("at the end: got the operations file %q, %v, want an empty list", text, err)
	}
}

// offline checks what must be so from the moment when offline was set.
func (c *crowd) offline(m *mount) {
	c.t.Helper()
	if err := noneBelow(m.process.uses(c.t), m.store); err != nil {
		c.t.Errorf("offline was set, but the serving process has open: %v", err)
	}
	c.none("offline was set")
	if n := len(m.host.operations()); n > 0 {
		c.t.Errorf("offline was set, but %d entries are in the operations file", n)
	}
	c.none("a moment after offline was set")
}

// gate lets reads of chunks through, or makes them wait.
type gate struct {
	mu      sync.Mutex
	shut    chan struct{} // nil while it is open
	waiting int
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

// open lets those through who wait. It may be called twice.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	if shut != nil {
		g.waiting++
	}
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// opened reports whether the gate is open.
func (g *gate) opened() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut == nil
}

// stopped returns how many reads have had to wait.
func (g *gate) stopped() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// behindGate shows a datastore once more, with its chunks behind a gate.
func behindGate(t *testing.T, store string) (string, *gate) {
	t.Helper()
	g := &gate{}
	return below(t, store, func(path string, data []byte, read func([]byte) int) (int, syscall.Errno) {
		if strings.HasPrefix(path, ".chunks/") {
			g.pass()
		}
		return read(data), 0
	}, g.open), g
}

// Closing a file is told in the same queue as read-ahead: readers that hang must
// not keep closed files counted.
func TestClosedFileIsReleasedWhileReadersHang(t *testing.T) {
	store, g := behindGate(t, fixture(t, "ds-basic"))
	m := newTank(t, store)
	must(t, opens(m.path(conf)))
	g.close()
	defer g.open() // else the mount cannot end
	const readers = 12
	var all []*actor
	for i := range readers {
		// The image has something on its first and its 41st MiB.
		off := 40<<20 + i<<17
		all = append(all, startActor(t, "read", m.path(diskImage), fmt.Sprint(off)))
	}
	eventually(t, "reads having to wait", func() error {
		if n := g.stopped(); n == 0 {
			return unlike("none has")
		}
		return nil
	})
	// A machine under load may miss the second once, a queue that is full
	// misses it always.
	err := within(patience, func() error {
		f, err := os.Open(m.path(conf))
		must(t, err)
		if s := m.host.status(); s.reads() < 1 || len(s.Handles) != readers+1 {
			t.Errorf("got the status %+v, want %d handles", s, readers+1)
		}
		must(t, f.Close())
		return within(time.Second, func() error {
			if s := m.host.status(); len(s.Handles) != readers {
				return unlike("there are %d handles, want those of the %d readers", len(s.Handles), readers)
			}
			return nil
		})
	})
	if err != nil {
		t.Errorf("a second after a file was closed: %v", err)
	}
	eventually(t, "the count being that of the readers", func() error {
		if n := m.host.status().reads(); n != readers {
			return unlike("there are %d reads", n)
		}
		return nil
	})
	g.open()
	for _, a := range all {
		if line := a.hear(); line != "done" {
			t.Errorf("a reader that hung: got %q", line)
		}
	}
	m.unmount()
}
