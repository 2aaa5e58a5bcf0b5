package chunk

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pbsfs/pbsfs/store/blob"
)

// Checker reads and verifies chunks one by one, outside of any cache. It keeps the
// buffers from one to the next, as large as the largest chunk so far. A Checker must not
// be used concurrently.
type Checker struct{ encoded, data []byte }

// Checked is what was found out about a chunk that is not damaged.
type Checked struct {
	Stored int // length of its file
	// Sealed is set if the chunk is encrypted and its key is not known: then its content
	// was not checked.
	Sealed bool
}

// Check verifies the chunk as a load would. For an encrypted chunk without a key it
// checks what can be checked. Errors about the chunk are an [*Error].
func (c *Checker) Check(ctx context.Context, from Backend, w Want) (Checked, error) {
	encoded, err := from.ReadChunk(ctx, w.Digest, c.encoded)
	switch {
	case ctx.Err() != nil:
		return Checked{}, context.Cause(ctx)
	case err != nil:
		return Checked{}, &Error{Digest: w.Digest, Missing: errors.Is(err, fs.ErrNotExist), Err: err}
	}
	c.encoded = encoded[:0]
	out := Checked{Stored: len(encoded), Sealed: w.Mode == blob.MustEncrypted && w.Key == nil}
	if out.Sealed {
		err = blob.CheckSealed(encoded, w.Size)
	} else {
		err = c.decode(encoded, w)
	}
	if err != nil {
		return out, &Error{Digest: w.Digest, Err: err}
	}
	return out, nil
}

func (c *Checker) decode(encoded []byte, w Want) error {
	data, err := blob.DecodeChunk(c.data, encoded, w.Size, w.Digest, w.Mode, w.Key)
	if cap(data) > cap(c.data) {
		c.data = data[:0]
	}
	return err
}
