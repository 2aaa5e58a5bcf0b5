package main

import (
	"io"
	"sync"
	"time"
)

// A program that reads the log may stop reading or end, and a log file may lie on a
// file system that hangs. The mount must go on. So a goroutine writes the lines. A
// limited number of lines waits for it, and the rest is lost.

const (
	// maxWaiting is how many lines of a log may wait to be written.
	maxWaiting = 4096
	// lastLines bounds the time to write the last lines of a log.
	lastLines = time.Second
)

// outbox writes what is put into it, in order, in a goroutine of its own.
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

// put queues a write. It is done later, or, if the queue is full, never.
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

// notify wakes the writer. The caller holds mu.
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
				_ = write() // an error cannot be reported anywhere
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

// takeLost returns how many lines were lost since the last call.
func (b *outbox) takeLost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.lost
	b.lost = 0
	return n
}

// close waits a moment for the lines that are not yet written.
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
	box  *outbox
	to   io.Writer
	lost func(lines int) []byte // the line that says how many were lost
}

// Write queues a line.
func (w lineWriter) Write(line []byte) (int, error) {
	text := append([]byte(nil), line...)
	w.box.put(func() error {
		if n := w.box.takeLost(); n > 0 {
			text = append(w.lost(n), text...)
		}
		_, err := w.to.Write(text)
		return err
	})
	return len(line), nil
}
