// Package statefile locks, reads and replaces small files that other programs share. It
// replaces a file in one step, with the owner and mode that those programs expect, and
// reads no more than a limit. If a lock is held for too long, the error names its
// holder.
package statefile
