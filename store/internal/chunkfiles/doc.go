// Package chunkfiles keeps chunks that came from far away in files of this machine, as they
// are in the bucket: what is encrypted there is encrypted here. A [Cache] is a hint, never
// evidence: whoever takes a chunk from it verifies it, and asks the bucket if it is wrong
// ([Cache.Forget]).
//
// Several processes share one directory without knowing each other. A file is written under
// a temporary name and renamed, so a crash leaves a whole chunk, a short one that is found
// out to be wrong, or a temporary file that the next cleaning takes away. The directory may
// be deleted at any time. When it cannot be written, because the disk is full or read-only,
// chunks are not kept.
//
// A chunk that is asked for again is protected: it moves from the directory "once" to the
// directory "again". When the cache has outgrown its limit, one process at a time deletes
// the chunks that were used longest ago, those in "once" first, so that a scan of any length
// leaves three quarters to chunks that are used often.
package chunkfiles
