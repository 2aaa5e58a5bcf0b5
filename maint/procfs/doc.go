// Package procfs knows processes by what /proc says of them. A [Process] is a pid and
// the time when it began: a pid alone is given out again. What cannot be seen from
// this pid namespace is not judged: see [Sight].
//
// It takes no locks and keeps nothing.
package procfs
