// Package chunk turns digests into verified chunk data.
//
// A [Source] answers Get with a [Block]: the decoded bytes of one chunk, whose
// checksum, crypt mode, length and digest have been verified. Only verified
// bytes enter its cache. The cache is bounded in bytes; its key holds the
// digest and whether and with which key the chunk is encrypted, so that a hit
// can never skip the mode check.
//
// Blocks are counted: Get hands out a reference that the caller must Release.
// The memory of a block that left the cache is used again for the next one
// once nobody refers to it.
//
// Each missing chunk is loaded by one goroutine, whoever asks for it; the
// others wait and leave when their own context ends. A loader holds a right of
// its own while it reads, so that nothing below the datastore is open without
// being counted, even when everybody who asked has left.
//
// Lock order: Source.mu is a leaf. It is never held across I/O, decoding or a
// wait.
package chunk
