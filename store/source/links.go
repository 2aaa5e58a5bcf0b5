package source

import "golang.org/x/sys/unix"

// links remembers each regular file with several names until all its names were seen.
type links[T any] map[identity]linked[T]

type linked[T any] struct {
	value T
	left  uint64 // names that have not been seen
	size  int64
	mtime unix.Timespec
}

func (l links[T]) put(st *unix.Stat_t, value T) {
	if n := uint64(st.Nlink); n > 1 {
		l[identityOf(st)] = linked[T]{value, n - 1, st.Size, st.Mtim}
	}
}

// take returns the value that was put for the same file under another name. A file that
// was changed since counts as another file, because its inode number may have been
// given to a new file.
func (l links[T]) take(st *unix.Stat_t) (value T, ok bool) {
	if st.Nlink < 2 {
		return value, false
	}
	f, ok := l[identityOf(st)]
	if !ok || f.size != st.Size || f.mtime != st.Mtim {
		return value, false
	}
	if f.left--; f.left > 0 {
		l[identityOf(st)] = f
	} else {
		delete(l, identityOf(st))
	}
	return f.value, true
}

// counter counts the entries that it visits.
type counter struct {
	files, bytes int64
	seen         links[struct{}]
}

func (c *counter) enter(name string, _ int, _ *unix.Stat_t, _ bool) (bool, error) {
	if name != "" {
		c.files++
	}
	return true, nil
}

func (c *counter) leave() error { return nil }

func (c *counter) leaf(_ int, _ string, st *unix.Stat_t) error {
	c.files++
	if typeOf(st) != unix.S_IFREG {
		return nil
	}
	if _, seen := c.seen.take(st); !seen {
		c.seen.put(st, struct{}{})
		c.bytes += st.Size
	}
	return nil
}
