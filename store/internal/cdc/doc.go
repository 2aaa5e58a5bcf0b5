// Package cdc cuts a stream into chunks whose ends depend on what is in it, so
// that an insertion changes the chunks around it and no others, and a second
// version of a stream has most chunks in common with the first.
//
// A [Chunker] rolls a gear hash over the last 64 bytes: it is shifted left by
// one, and a number that stands for the byte is added. A chunk ends where the
// hash is below a threshold, not before a quarter of the average length and not
// after four times of it. The threshold is low in the beginning and high later
// (normalised chunking, as FastCDC has it), which draws the lengths towards the
// average. Zeros never have such an end: a long run of them is chunks of
// maximum length, all the same.
//
// The numbers are fixed, byte b has the first 8 bytes of SHA-256(b), little
// endian. They are not the official client's: its chunks and ours of the same
// stream are different ones. To change them, or the thresholds, would store
// everything anew.
package cdc
