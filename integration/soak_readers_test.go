package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// raceProgram builds the program with the race detector, which ends it with exit code
// 66 where it finds something.
func raceProgram(t *testing.T) string {
	t.Helper()
	file := filepath.Join(tempDir(t), "pbsfs")
	cmd := exec.Command("go", "build", "-race", "-o", file, "../cmd/pbsfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return file
}

// goroutines returns how many the process has whose metrics are shown at a socket.
func goroutines(socket string) (int, error) {
	out, err := exec.Command("curl", "-s", "--unix-socket", socket, "http://mount/metrics").Output()
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^go_goroutines (\d+)$`).FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("no goroutines in %.200s", out)
	}
	return strconv.Atoi(string(found[1]))
}

// However many processes read, list and map at once: all bytes are right, status answers
// meanwhile, and afterwards nothing is left of them.
func TestManyReadersAtOnce(t *testing.T) {
	needRoot(t)
	needTool(t, "curl")
	const store = "ds-basic"
	plain := mountAt(t, fixture(t, store))
	dir, files := copied(t, plain, alpha, vm100, filepath.Dir(images[1]))
	plain.unmount()
	h := newHost(t)
	n := 20
	if soaking() {
		n, h.program = 200, raceProgram(t)
	}
	socket := filepath.Join(h.dir, "metrics.sock")
	m := h.mount(fixture(t, store), "--metrics", "unix:"+socket, "--cache-size", "32MiB")
	idle, err := goroutines(socket)
	must(t, err)

	readers := startComparers(t, n, m.dir, dir, files)
	var answers []time.Duration
	for end := time.Now().Add(soakTime(t, 3)); time.Now().Before(end); {
		begun := time.Now()
		h.statusOf(m.store)
		answers = append(answers, time.Since(begun))
	}
	readers.end()
	slices.Sort(answers)
	t.Logf("status answered %d times, half of them within %v, the slowest in %v", len(answers), answers[len(answers)/2], answers[len(answers)-1])
	eventually(t, "nothing being read", func() error {
		if now, err := goroutines(socket); err != nil || now > idle+16 {
			return fmt.Errorf("%d goroutines, idle there were %d, %w", now, idle, err)
		}
		if fds := m.process.descriptors(t); slices.ContainsFunc(fds, func(to string) bool { return strings.HasPrefix(to, m.store) }) {
			return fmt.Errorf("open are %q", fds)
		}
		return nil
	})
	if !m.process.alive() {
		t.Error("the process has ended")
	}
}
