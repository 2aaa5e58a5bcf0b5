package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
)

// maxUnread bounds how many problems of one command are named.
const maxUnread = 100

// unread collects what a command could not read while it went on with the rest. It is
// safe for concurrent use.
type unread struct {
	mu     sync.Mutex // guards what follows; a leaf lock
	seen   map[string]bool
	lines  []string
	more   int
	causes []error
}

// add takes a problem. One fault that is met again, as a damaged chunk in many files, is
// named once. where is a path below a mount point.
func (u *unread) add(where string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := err.Error()
	var own *store.Error
	if errors.As(err, &own) {
		key = own.Cause()
	}
	if u.seen == nil {
		u.seen = make(map[string]bool)
	}
	if u.seen[key] {
		return
	}
	if len(u.lines) == maxUnread {
		u.more++
		return
	}
	u.seen[key] = true
	u.lines = append(u.lines, fmt.Sprintf("/%s: %s", text.Printable(where), text.Printable(err.Error())))
	u.causes = append(u.causes, err)
}

// err returns the problems as one error, nil if there were none.
func (u *unread) err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch n := len(u.lines) + u.more; n {
	case 0:
		return nil
	case 1:
		return &unreadError{fmt.Sprintf("not everything could be read: %s", u.lines[0]), u.causes}
	default:
		list := strings.Join(u.lines, "\n  ")
		if u.more > 0 {
			list += fmt.Sprintf("\n  and %d more", u.more)
		}
		return &unreadError{fmt.Sprintf("%d things could not be read:\n  %s", n, list), u.causes}
	}
}

// unreadError says what could not be read.
type unreadError struct {
	text   string
	causes []error
}

func (e *unreadError) Error() string { return e.text }

// Unwrap returns the causes. Damage weighs more than a key that is missing.
func (e *unreadError) Unwrap() []error {
	for _, c := range e.causes {
		if errors.Is(c, store.ErrCorrupt) {
			return []error{c}
		}
	}
	return e.causes
}

// notReadable reports whether err concerns what is stored in a snapshot, so that a command
// can go on with the rest.
func notReadable(err error) bool {
	var own *store.Error
	return errors.As(err, &own) || errors.Is(err, store.ErrCorrupt)
}
