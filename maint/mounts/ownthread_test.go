package mounts

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What enters another namespace of mounts is never the first thread: what /proc/self
// shows would be that namespace from then on.
func TestOwnThreadIsNotTheFirst(t *testing.T) {
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			runtime.Gosched()
			onOwnThread(func() {
				if unix.Gettid() == os.Getpid() {
					t.Error("called on the first thread")
				}
			})
		})
	}
	all.Wait()
}
