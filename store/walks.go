package store

import (
	"context"
	"slices"
	"sync"

	"github.com/pbsfs/pbsfs/store/index"
	"github.com/pbsfs/pbsfs/store/pxar"
)

const (
	// maxWalks is how many walks through the archives of a datastore are tracked at once.
	maxWalks = 16
	// maxSteps is how many directories are known ahead of each.
	maxSteps = 1024
)

// walks foresees which chunks of unified archives a program needs that goes from
// directory to directory, as find(1) does. Between the metadata of two directories there
// is content, which such a program does not read, so it looks like no reader of the
// stream. Each directory that was foreseen doubles the number of chunks that are loaded
// ahead: so at most about as many are loaded in vain as were needed.
type walks struct {
	mu  sync.Mutex // a leaf lock
	all []*walk    // used last at the end
}

// walk is the progress of one program.
type walk struct {
	archive [32]byte // the checksum of its index
	todo    []step   // the directories to come, the next one last
	window  int      // how many chunks to load ahead
}

// step is a directory to which a walk may come.
type step struct {
	end         int64 // of the directory, by which it is known
	entry, tail int   // the chunks that have its entry, and the end of its table
}

// come notes that a program has come to the directory of an archive that ends at end. It
// returns the walk for which that was foreseen, else a new one.
func (w *walks) come(archive [32]byte, end int64, maxWindow int) *walk {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, k := range w.all {
		if i := k.find(archive, end); i >= 0 {
			k.todo = k.todo[:i]
			k.window = min(max(1, 2*k.window), maxWindow)
			w.all = append(slices.Delete(w.all, n, n+1), k)
			return k
		}
	}
	if len(w.all) == maxWalks {
		w.all = slices.Delete(w.all, 0, 1)
	}
	k := &walk{archive: archive}
	w.all = append(w.all, k)
	return k
}

// find returns which of the steps is that directory, -1 if none is.
func (k *walk) find(archive [32]byte, end int64) int {
	if k.archive != archive {
		return -1
	}
	for i, s := range slices.Backward(k.todo) {
		if s.end == end {
			return i
		}
	}
	return -1
}

// add puts the subdirectories of the directory to which the walk has come before all
// others that are to come. It returns the chunks to load ahead.
func (w *walks) add(k *walk, below []step) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Reverse(below)
	k.todo = append(k.todo, below...)
	if more := len(k.todo) - maxSteps; more > 0 {
		k.todo = slices.Delete(k.todo, 0, more)
	}
	var chunks []int
	for _, s := range slices.Backward(k.todo) {
		for _, i := range []int{s.entry, s.tail} {
			if len(chunks) >= k.window {
				return chunks
			}
			if !slices.Contains(chunks, i) {
				chunks = append(chunks, i)
			}
		}
	}
	return chunks
}

// Visit is a directory that a program lists. It is told which subdirectories there are,
// and then has the chunks loaded ahead that the program needs to go on to them.
type Visit struct {
	a     *Archive
	table *pxar.Table
	walk  *walk
	below []int // which children are directories
}

// Visit notes that the directory with the table t is listed. It returns nil, on which all
// methods do nothing, if nothing has to be foreseen: the metadata of a split archive is
// small.
func (a *Archive) Visit(t *pxar.Table) *Visit {
	if a.format.Split() {
		return nil
	}
	return &Visit{a: a, table: t, walk: a.meta.snap.ds.memory.walks.come(a.meta.file.Csum, t.End(), a.meta.snap.ds.chunks.Window())}
}

// Below notes that the i-th child is a directory.
func (v *Visit) Below(i int) {
	if v != nil && len(v.below) < maxSteps {
		v.below = append(v.below, i)
	}
}

// Ahead loads what comes after the last child was listed.
func (v *Visit) Ahead(ctx context.Context, right CanRead) {
	if v == nil {
		return
	}
	s := v.a.meta
	x, err := s.index(ctx, right)
	if err != nil {
		return
	}
	for _, i := range s.snap.ds.memory.walks.add(v.walk, v.steps(x)) {
		if span := x.Span(i); !v.a.knows(i, span.Off) {
			s.loadAhead(right, span)
		}
	}
}

// steps returns the steps to the subdirectories.
func (v *Visit) steps(x *index.Index) []step {
	steps := make([]step, 0, len(v.below))
	for _, i := range v.below {
		off, end := v.table.Range(i)
		entry, ok := x.Find(off)
		tail, also := x.Find(end - 1)
		if ok && also {
			steps = append(steps, step{end, entry, tail})
		}
	}
	return steps
}
