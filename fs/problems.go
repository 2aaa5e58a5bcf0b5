package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/tree"
)

// Problem is an error that occurred while serving the tree.
type Problem struct {
	Time time.Time
	Text string
}

// The bounds on the memory for problems:
const (
	problemsKept   = 20
	causesReported = 10_000
)

// problems reports each cause once. It is safe for concurrent use.
type problems struct {
	log *slog.Logger

	mu     sync.Mutex
	causes map[string]struct{}
	last   []Problem
}

// report logs err unless its cause was reported before. It leaves out answers that are
// no problem: a name that does not exist, a request that was given up, a refusal by the
// maintenance mode.
func (p *problems) report(err error, errno syscall.Errno) {
	switch errno {
	case syscall.EIO, syscall.EACCES, syscall.ENOMEDIUM, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
	default:
		return
	}
	if errors.Is(err, cfg.ErrUnmounting) {
		return
	}
	cause := err.Error()
	var own *store.Error
	if errors.As(err, &own) {
		cause = own.Cause()
	}
	var key *store.KeyError
	if errors.As(err, &key) {
		cause = key.Error()
	}
	if p.first(cause, err.Error()) {
		p.log.Error("cannot be served", "error", err.Error(), "errno", errno.Error())
	}
}

// zeros logs that a file has zeros in the place of what is damaged, each chunk once.
func (p *problems) zeros(path string, l store.Lost) {
	cause := l.Err.Error()
	var own *store.Error
	if errors.As(l.Err, &own) {
		cause = own.Cause()
	}
	bytes := tree.RangesText([]store.Range{l.Range}, maxXattrValue)
	if p.first("zeros: "+cause, fmt.Sprintf("/%s: zeros in bytes %s: %v", path, bytes, l.Err)) {
		p.log.Error("zeros are served instead of damaged data", "path", path, "bytes", bytes, "error", l.Err.Error())
	}
}

// first reports whether cause is new, and remembers it. When there are too many, all
// are forgotten: it is better to report a cause twice than never.
func (p *problems) first(cause, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.causes[cause]; ok {
		return false
	}
	if p.causes == nil || len(p.causes) >= causesReported {
		p.causes = make(map[string]struct{})
	}
	p.causes[cause] = struct{}{}
	p.last = append(p.last, Problem{Time: time.Now(), Text: text})
	if n := len(p.last); n > problemsKept {
		p.last = p.last[n-problemsKept:]
	}
	return true
}

// recent returns the last problems, oldest first.
func (p *problems) recent() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Problem(nil), p.last...)
}
