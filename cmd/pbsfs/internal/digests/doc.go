// Package digests keeps a small value for each of very many chunks.
//
// A [Map] is a hash table that grows by one bucket at a time (linear hashing). It never
// makes a copy of itself and leaves no garbage, so that what it takes is what it needs:
// for each entry 32 bytes of digest and the value, and about a tenth of that for what is
// not full. The hash has a seed, so that nobody can choose digests that meet in one
// bucket.
//
// A Map must not be used concurrently.
package digests
