// Package statefile locks, reads and replaces small files that other programs share:
// in one step, with the owner and mode that they expect, and never longer than they may
// be. A lock that is held for too long is an error that says by whom.
package statefile
