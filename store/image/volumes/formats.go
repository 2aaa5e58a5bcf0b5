package volumes

import (
	"io"

	"github.com/pbsfs/pbsfs/store/image"
)

// decoders are tried in this order.
var decoders = []func(io.ReaderAt, int64) (image.FileSystem, error){}
