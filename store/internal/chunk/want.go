package chunk

import (
	"fmt"

	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

// Error says that a chunk cannot be served. It never matches [fs.ErrNotExist]: a
// missing chunk does not mean that the user's file does not exist.
type Error struct {
	Digest name.Digest
	// Missing is set when there is no file of that name.
	Missing bool
	// Err says what is wrong.
	Err error
}

// Error names the chunk and what is wrong with it.
func (e *Error) Error() string { return fmt.Sprintf("chunk %s: %v", e.Digest, e.Err) }

// Unwrap returns the cause, unless that is only that there is no such file.
func (e *Error) Unwrap() error {
	if e.Missing {
		return corrupt.Err
	}
	return e.Err
}

// Want names a chunk and everything it is verified against.
type Want struct {
	Digest name.Digest
	Size   int // length of the decoded data
	Mode   blob.Mode
	Key    *keys.Key // nil unless Mode is MustEncrypted
}

// id is the key of a cached block: everything that the block was verified against. If
// two indexes name one digest with different lengths, only one of them can be right,
// and the other must not affect it.
type id struct {
	digest name.Digest
	size   int
	mode   blob.Mode
	key    keys.Fingerprint // zero unless there is a key
}

func (w Want) id() id {
	k := id{digest: w.Digest, size: w.Size, mode: w.Mode}
	if w.Key != nil {
		k.key = w.Key.Fingerprint()
	}
	return k
}
