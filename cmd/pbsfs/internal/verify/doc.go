// Package verify checks everything that the snapshots of a datastore consist of, and
// finds out what damage costs.
//
// [Run] goes through snapshots, the newest first. Of each it reads manifest, indexes,
// blobs and the client's log as they are on disk now, and checks them against each
// other. Each chunk is checked once for all indexes that say the same of it, in the order
// of the first of these, by as many workers as it takes to keep all processors and the
// disk busy. Nothing goes through the cache of chunks, and nothing is written.
//
// # What damage costs
//
// Damage is reported when the first snapshot is met that it hurts, as a [Damage], with a
// [Cost] for each file of each snapshot that cannot be read whole. For that, the archives
// that are hit are walked as a reader of the tree would walk them: what that reader
// cannot enter, list or open is a cost, and so are the ranges of a file that lie in
// damaged chunks. So the files are those that a reader fails on, no more and no fewer. What
// lies in other chunks is left out, unless a file that is hit may have further names there.
// Files inside of disk images are not looked for: of an image, the ranges are reported.
//
// # What is no damage
//
// A snapshot that was removed or replaced while it was looked at, and a chunk that a
// garbage collection has removed with it. A missing chunk is looked at a second time
// before it is reported. Encrypted data whose key is not known is checked as far as that
// goes, and counted.
//
// # Locks and goroutines
//
// All readers are of one operation. A snapshot is locked from before its manifest is read
// until its costs are known; a few are under way at a time. Run waits for its goroutines.
// The [Reporter] is called by one of them, never concurrently.
//
// # Memory
//
// 39 bytes for each distinct chunk, the largest index twice, the chunks that the workers
// have in hand (at most 32 MiB for each), the names of the snapshots, and some 500 bytes
// for each damaged chunk, of which [MaxDamaged] are kept.
package verify
