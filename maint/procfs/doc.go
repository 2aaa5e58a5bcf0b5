// Package procfs identifies processes by what /proc says of them. A [Process] is a pid
// and a start time, because the kernel uses a pid again. A process that cannot be seen
// from this pid namespace is not judged: see [Sight].
//
// The package takes no locks and keeps no state.
package procfs
