// Package s3 reads a datastore from object storage (reference "s3"). It never writes or
// deletes anything, and needs no permission but to list and to get below the datastore's
// prefix.
//
// A [Bucket] is the way to the datastore: connections, credentials, and what was listed.
// Its methods are those of [backend.Backend]; names are those on disk, "host/alpha/…" and
// ".chunks/…". There is no local copy of anything.
//
// # Listings
//
// A group is listed as a whole, in pages of 1,000 objects, about five of which make a
// snapshot; what is above is listed a directory at a time. A listing answers for all names
// in it until it is older than [Options].Refresh, and is dropped when an object that it
// lists is gone. Chunks are never listed: indexes name them. Listings take bounded memory.
//
// # Requests
//
// The library signs, pages, and repeats requests that failed on the way or that the server
// put off, after growing, random pauses. An answer that breaks off is asked for again from
// where it broke, if the object is still the same. A request that makes no progress for
// [Options].Patience ends, whatever it waits for. At most [Options].Parallel requests are
// under way.
//
// # Errors
//
// An object that does not exist matches [fs.ErrNotExist]. Everything that keeps the
// datastore from being reached is a [*Error], which says what is wrong and what to do.
//
// # Locks
//
// listings.mu is a leaf, never held across a request.
package s3
