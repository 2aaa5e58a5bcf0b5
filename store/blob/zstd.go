package blob

import (
	"errors"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

const (
	// firstGuess is the least room a stream of unknown length is given.
	firstGuess = 64 << 10
	// guessedRatio is the compression that the first room is good for.
	guessedRatio = 4
	// blockRoom is what the decompressor may need to get on: the largest
	// block of a zstd stream and the slack its fast copies want. An error
	// with less room left may mean nothing but too little room.
	blockRoom = 128<<10 + 16
)

// decoders keeps decompressors. Each works in its caller's goroutine and has
// none of its own, so that dropping one leaks nothing.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(MaxSize),
		zstd.WithDecoderMaxWindow(MaxSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("blob: options of the zstd decoder: " + err.Error()) // constants above
	}
	return d
}}

// unzstd appends what stream decompresses to, at most limit bytes, to dst,
// which is empty.
//
// The output is limited by the capacity the decompressor is given, because
// what the stream says about its length is only a claim. The capacity starts
// small and doubles, so that memory follows the data.
func unzstd(dst, stream []byte, limit int) ([]byte, error) {
	if len(stream) == 0 {
		return nil, corrupt.New("zstd stream is empty")
	}
	decoder := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(decoder)

	room := min(limit, max(cap(dst), guessedRatio*len(stream), firstGuess))
	for {
		if cap(dst) < room {
			dst = make([]byte, 0, room)
		}
		out, err := decoder.DecodeAll(stream, dst[:0:room])
		switch {
		case err == nil && len(out) <= room:
			return out, nil
		case room < limit && wantsRoom(err, room-len(out)):
			room = min(limit, 2*room)
		case errors.Is(err, zstd.ErrDecoderSizeExceeded), len(out) > limit:
			return nil, tooLong(limit)
		default:
			return nil, corrupt.New("zstd stream does not decompress to at most %d bytes: %v", limit, err)
		}
	}
}

// wantsRoom reports whether decoding may have failed for lack of room. The
// decompressor has an error for that, but not in all places: a block that
// does not fit can also look like a malformed one.
func wantsRoom(err error, left int) bool {
	return errors.Is(err, zstd.ErrDecoderSizeExceeded) || left < blockRoom
}
