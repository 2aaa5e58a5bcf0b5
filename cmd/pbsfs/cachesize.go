package main

import "github.com/pbsfs/pbsfs/maint/procfs"

// The memory for decoded chunks suits the machine: a share of what there is, but so much
// that reading ahead works, and not more than is of use.
const (
	cacheShare = 16
	leastCache = 64 << 20
	mostCache  = 2 << 30

	defaultCacheText = "a 16th of the memory, from 64MiB to 2GiB"
)

// defaultCache is the value of --cache-size if it is not given.
func defaultCache() byteSize { return cacheOf(procfs.Memory()) }

// cacheOf returns the share of so much memory; 0 means that it is not known.
func cacheOf(memory int64) byteSize {
	return byteSize(min(max(memory/cacheShare, leastCache), mostCache))
}
