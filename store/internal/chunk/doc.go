// Package chunk turns digests into verified chunk data.
//
// A [Source] answers Get with a [Block]: the decoded bytes of one chunk, whose
// checksum, crypt mode, length and digest have been verified. Only verified
// bytes enter its cache. The cache is bounded in bytes; its key holds
// everything that a block was verified against, so that a hit can never skip a
// check.
//
// Chunks come from a [Backend], whose [Limits] say what it can do. A directory of this
// machine is one ([disk.Root]). The context of a load ends with the source, and when
// the backend's timeout is over. The caller that asked for the chunk may leave before.
//
// Blocks are counted: Get returns a reference that the caller must Release. When a
// block has left the cache and has no more references, its memory is used again for the
// next one. The memory is mapped, outside of Go's heap, whose collector would let it
// grow to twice the size in use.
//
// A block that is used a second time, by another read than the one for which it was
// loaded, is protected from blocks that are used once: a scan does not empty the cache.
//
// A load that a caller waits for begins at once, as long as the loads under way take no
// more memory than [Limits] say. Ahead loads chunks before they are asked for, when no caller
// waits, and as many at a time as the backend takes. So a single reader keeps all
// processors decoding. A load ahead holds nothing while it waits for its turn. If its
// reader has stopped meanwhile, the chunk is not loaded.
//
// Each missing chunk is loaded by one goroutine, however many callers ask for it.
// Callers wait for it, and leave when their own context ends. A loader holds a right of
// its own while it reads, so nothing below the datastore is open without being counted,
// even when all callers have left. It releases the right before any caller gets the
// answer. Wait waits for the loaders.
//
// Lock order: Source.mu is a leaf. It is never held across I/O, decoding or a
// wait.
package chunk
