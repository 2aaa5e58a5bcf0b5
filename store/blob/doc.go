// Package blob decodes and encodes data blobs, the container of chunk files
// and of the ".blob" files of snapshots (reference "blobs-chunks-indexes",
// sections 1 and 2).
//
// A blob is a magic number that tells its [Kind], a CRC, for encrypted kinds
// an IV and a tag, and the payload: plain, compressed with zstd, encrypted, or
// compressed and then encrypted. [Decode] undoes all of it; [DecodeChunk] also
// holds the result against the length and the digest that an index states for
// the chunk.
//
// Blobs are hostile input:
//
//   - The caller says by a [Mode] which kinds it accepts. The mode comes from
//     the manifest, not from the blob, and is checked before anything is
//     decoded: who can write to the datastore must not be able to pass plain
//     data off as encrypted.
//   - Output never exceeds the caller's limit, whatever a compressed stream
//     says about its own size. A header makes nobody allocate: memory grows
//     with what was really decoded, up to the limit. Only DecodeChunk
//     allocates all of the wanted length at once, which its caller has from
//     an index.
//   - The CRC finds rot. Only the tag of encrypted data and the digest of
//     chunks protect against intent.
//
// Every complaint about the bytes matches corrupt.Err; encrypted data
// without a key is [ErrKeyNeeded] and says nothing about the bytes except that
// the CRC fits.
//
// An [Encoder] writes blobs as the official programs do: zstd at its fastest
// level and only where it makes data shorter, compression before encryption, a
// fresh random IV for each blob. [Digest] names a chunk; the writer asks for it
// first and encodes what is not there yet. A key that is not usable is an
// error, never plain data.
//
// All functions are safe for concurrent use; compressors, decompressors and
// scratch buffers are pooled. A result never shares memory with the input.
package blob
