package disk

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store/internal/backend"
)

// chunkDirMode is the mode of .chunks and of the directories below it. A server
// requires it (reference "datastore-layout", section 1).
const chunkDirMode = 0o750

// TouchChunk sets the access time of the chunk in dir, a directory below .chunks, to
// now, so that no garbage collection removes it. It returns the file's description. A
// missing chunk is [fs.ErrNotExist].
func (w *Writable) TouchChunk(dir, name string) (backend.Info, error) {
	d, err := w.openDir(chunksDir + "/" + dir)
	if err != nil {
		return backend.Info{}, err
	}
	defer d.Close()
	times := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
	if err := unix.UtimesNanoAt(d.fd, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return backend.Info{}, w.failed("touch", chunksDir+"/"+dir+"/"+name, err)
	}
	return d.stat(name)
}

// WriteChunk makes the chunk name in dir, a directory below .chunks. An existing chunk
// gives [fs.ErrExist], unless replace is set.
func (w *Writable) WriteChunk(dir, name string, data []byte, replace bool) error {
	at := chunksDir + "/" + dir + "/" + name
	parent, _, err := w.openParent(at)
	if errors.Is(err, unix.ENOENT) {
		if _, err := w.makeDir(chunksDir+"/"+dir, chunkDirMode); err != nil {
			return err
		}
		parent, _, err = w.openParent(at)
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := w.put(parent, name, data, how{replace: replace}); err != nil {
		return w.failed("write", at, err)
	}
	return nil
}
