package ext

import (
	"github.com/pbsfs/pbsfs/store/corrupt"
)

// The attribute that has what does not fit in the map of an inode with inline data.
const (
	inlineIndex = 7
	inlineName  = "data"
)

// inlineData returns the content that lies in an inode: 60 bytes where others have a map, and the
// rest in an attribute. What is missing there are zeros.
func (i *inode) inlineData() ([]byte, error) {
	more, err := i.inlineRest()
	if err != nil {
		return nil, err
	}
	if i.Size > int64(len(i.block)+len(i.extra)) {
		return nil, corrupt.At(i.off, "ext inode %d: size %d is more than the inode can hold", i.Number, i.Size)
	}
	p := make([]byte, i.Size)
	if n := copy(p, i.block[:]); n == len(i.block) {
		copy(p[n:], more)
	}
	return p, nil
}

// inlineRest returns the value of that attribute, which is there even if it is empty.
func (i *inode) inlineRest() ([]byte, error) {
	entries, err := i.ownAttributes()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.index == inlineIndex && e.name == inlineName && e.inode == 0 {
			return e.value, nil
		}
	}
	return nil, corrupt.At(i.off, "ext inode %d: its content is not there", i.Number)
}
