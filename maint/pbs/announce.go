package pbs

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The layout of PBS's shared counters, see reference "operations-and-maintenance",
// section 3.
const (
	GenerationSize   = 4096
	GenerationMagic  = 0x19c6a8e69a848f83 // big-endian
	GenerationOffset = 24

	// proxyTimeout bounds the conversation with PBS's proxy. The conversation is a
	// courtesy: the counter has already told PBS.
	proxyTimeout = 5 * time.Second
)

// BumpGeneration tells PBS that its cached datastore.cfg is out of date. It is called
// under the config lock, after each replacement of the file. An older PBS has no
// counter and needs none.
func BumpGeneration(host hosts.Host) error {
	if !host.IsPBS() {
		return nil
	}
	path := filepath.Join(host.RunDir(), "shmem", "config-versions")
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() < GenerationSize {
		return fmt.Errorf("%s does not hold PBS's counters", path)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, GenerationSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", path, err)
	}
	defer func() { _ = unix.Munmap(m) }()
	if binary.BigEndian.Uint64(m) != GenerationMagic {
		return fmt.Errorf("%s does not hold PBS's counters", path)
	}
	// The mapping begins on a page, so the counter is aligned.
	atomic.AddUint64((*uint64)(unsafe.Pointer(&m[GenerationOffset])), 1)
	return nil
}

// TellProxy asks PBS's proxy to read a datastore's entry anew. A missing proxy is no
// error.
func TellProxy(ctx context.Context, host hosts.Host, store string) error {
	pid := readPIDFile(host.ProxyPIDFile())
	if _, running := procfs.LookProcess(pid); !running {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	var d net.Dialer
	// Go writes an abstract address with "@".
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("@%s/control-%d.sock", host.RunDir(), pid))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	line, err := json.Marshal(struct {
		Command string `json:"command"`
		Args    string `json:"args"`
	}{"update-datastore-cache", store})
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return err
	}
	return readAnswer(conn)
}

func readAnswer(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 4096)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("answer of PBS's proxy: %w", err)
	}
	if answer := text.Printable(strings.TrimSpace(string(line))); !strings.HasPrefix(answer, "OK") {
		return fmt.Errorf("answer of PBS's proxy: %s", answer)
	}
	return nil
}
