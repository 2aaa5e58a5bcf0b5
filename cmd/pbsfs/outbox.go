package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Who reads the log may stop reading, go away, or be a file system that hangs. The
// mount goes on: lines wait for a goroutine of their own, as many as there is room
// for, and the rest are lost.

const (
	// maxWaiting is how many lines of a log may wait to be written.
	maxWaiting = 4096
	// lastLines bounds how long the end of a log may take.
	lastLines = time.Second
)

// outbox writes what is put into it, in order, at leisure.
type outbox struct {
	mu      sync.Mutex // guards what follows; nothing is called under it
	waiting []func() error
	lost    int
	closed  bool

	news chan struct{} // capacity 1
	done chan struct{} // closed when all was written after close
}

func newOutbox() *outbox {
	b := &outbox{news: make(chan struct{}, 1), done: make(chan struct{})}
	go b.write()
	return b
}

// put has something written, sooner or later or not at all.
func (b *outbox) put(write func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return
	case len(b.waiting) >= maxWaiting:
		b.lost++
	default:
		b.waiting = append(b.waiting, write)
	}
	b.notify()
}

// notify wakes the writer. Called with mu held.
func (b *outbox) notify() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *outbox) write() {
	defer close(b.done)
	for range b.news {
		for {
			b.mu.Lock()
			batch, closed := b.waiting, b.closed
			b.waiting = nil
			b.mu.Unlock()
			for _, write := range batch {
				_ = write() // there is nobody to be told
			}
			if len(batch) == 0 && closed {
				return
			}
			if len(batch) == 0 {
				break
			}
		}
	}
}

// takeLost returns how many lines were lost since it was last asked.
func (b *outbox) takeLost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.lost
	b.lost = 0
	return n
}

// close waits a moment for what is not yet written.
func (b *outbox) close() {
	b.mu.Lock()
	b.closed = true
	b.notify()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-time.After(lastLines):
	}
}

// lineWriter is a writer of lines that never waits and never fails.
type lineWriter struct {
	box *outbox
	to  io.Writer
}

// Write has a line written.
func (w lineWriter) Write(line []byte) (int, error) {
	text := append([]byte(nil), line...)
	w.box.put(func() error {
		if n := w.box.takeLost(); n > 0 {
			text = append(fmt.Appendf(nil, "%d lines of the log were lost here\n", n), text...)
		}
		_, err := w.to.Write(text)
		return err
	})
	return len(line), nil
}
