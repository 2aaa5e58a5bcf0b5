// Package cdc cuts a stream into chunks whose ends depend on what is in it, so
// that an insertion changes the chunks around it and no others, and a second
// version of a stream has most chunks in common with the first.
//
// It cuts as the official client does, so that what either has stored is found
// by the other (reference "chunking"). A [Chunker] rolls a hash of 32 bits over the
// last 64 bytes (buzhash): it is rotated by one, the number of the byte that
// leaves is taken out and that of the byte that enters put in. A chunk ends where
// the low bits are one of the three highest values there are, not before a
// quarter of the average length, and after four times of it at the latest. Zeros
// never have such an end: a long run of them is chunks of maximum length, all
// the same.
//
// The stream of a split archive's contents is preferably cut where a file begins:
// its writer suggests these places. A suggested end wins over one that the hash
// finds less than 256 KiB before it. The official client does so for what happens
// to have arrived in its buffers, so that two of its own runs can differ in a
// few chunks; ours never do.
package cdc
