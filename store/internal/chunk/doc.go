// Package chunk turns digests into verified chunk data.
//
// A [Source] answers Get with a [Block]: the decoded bytes of one chunk, whose
// checksum, crypt mode, length and digest have been verified. Only verified
// bytes enter its cache. The cache is bounded in bytes; its key holds
// everything that a block was verified against, so that a hit can never skip a
// check.
//
// Chunks come from a [Backend], which says what it is good for with [Limits]: a
// directory of this machine is one ([disk.Root]). A load has a context that ends
// with the source and when the backend's time is over; who has asked for the
// chunk may leave before.
//
// Blocks are counted: Get hands out a reference that the caller must Release.
// The memory of a block that left the cache is used again for the next one
// once nobody refers to it. It is mapped, outside of Go's heap, whose collector
// lets it grow to twice what is in use.
//
// What is used a second time, by another read than the one that it was loaded
// for, is protected from what is used once: a scan does not empty the cache.
//
// Loads that somebody waits for begin at once, as long as those under way take
// no more than some 32 MiB. Ahead loads chunks before they are asked for, as many at a
// time as the backend takes, when no caller waits: so reading on is decoding on all
// of them. What waits for its turn there holds nothing; when its reader has
// stopped meanwhile it is not loaded.
//
// Each missing chunk is loaded by one goroutine, whoever asks for it; the
// others wait and leave when their own context ends. A loader holds a right of
// its own while it reads, so that nothing below the datastore is open without
// being counted, even when everybody who asked has left. It gives it back
// before anybody has an answer. Wait waits for the loaders.
//
// Lock order: Source.mu is a leaf. It is never held across I/O, decoding or a
// wait.
package chunk
