package maint

import (
	"sync"

	"github.com/pbsfs/pbsfs/maint/opsfile"
)

// shares adds up what several Operations of this process publish in one file: a process
// has only one entry there. A file's shares change only under its operations lock.
var shares = shareTable{files: map[string]map[*fileLedger]opsfile.Counts{}}

type shareTable struct {
	mu    sync.Mutex // guards files; no other lock is taken under it
	files map[string]map[*fileLedger]opsfile.Counts
}

// set notes one share and returns a function that restores the former one.
func (t *shareTable) set(path string, l *fileLedger, c opsfile.Counts) (undo func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.files[path][l]
	t.put(path, l, c)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.put(path, l, old)
	}
}

func (t *shareTable) put(path string, l *fileLedger, c opsfile.Counts) {
	if t.files[path] == nil {
		t.files[path] = map[*fileLedger]opsfile.Counts{}
	}
	t.files[path][l] = c
	if c == (opsfile.Counts{}) {
		delete(t.files[path], l)
	}
	if len(t.files[path]) == 0 {
		delete(t.files, path)
	}
}

func (t *shareTable) sum(path string) opsfile.Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum opsfile.Counts
	for _, c := range t.files[path] {
		sum = sum.And(c)
	}
	return sum
}
