package source

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// attributes reads the extended attributes of an open file.
type attributes struct {
	list func(dest []byte) (int, error)
	get  func(name string, dest []byte) (int, error)
}

// newAttributes returns the attributes of fd. A descriptor that was opened with O_PATH
// cannot be asked, but the kernel's path for it leads to the same file, even if that is
// a symbolic link.
func newAttributes(fd int, readable bool) attributes {
	if readable {
		return attributes{
			list: func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) },
			get:  func(name string, dest []byte) (int, error) { return unix.Fgetxattr(fd, name, dest) },
		}
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	return attributes{
		list: func(dest []byte) (int, error) { return unix.Listxattr(path, dest) },
		get:  func(name string, dest []byte) (int, error) { return unix.Getxattr(path, name, dest) },
	}
}

// names returns the names of all attributes, none if the file can have none.
func (x attributes) names() ([]string, error) {
	b, err := fetch(x.list)
	if err != nil && unsupported(err) {
		return nil, nil
	}
	var names []string
	for name := range bytes.SplitSeq(b, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, err
}

func (x attributes) value(name string) ([]byte, error) {
	return fetch(func(dest []byte) (int, error) { return x.get(name, dest) })
}

// maxTries bounds how often a value is asked for that is longer each time.
const maxTries = 100

// fetch calls a function that needs a buffer. Without a buffer, the function returns
// the size that it needs; the size may have changed by the next call.
func fetch(call func(dest []byte) (int, error)) ([]byte, error) {
	var guess [256]byte // large enough most of the time
	n, err := call(guess[:])
	if err == nil {
		return append([]byte{}, guess[:n]...), nil
	}
	for try := 0; try < maxTries && errors.Is(err, unix.ERANGE); try++ {
		if n, err = call(nil); err != nil {
			break
		}
		buf := make([]byte, n)
		if n, err = call(buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}
