// Package reach follows paths without being caught by a file system that hangs.
//
// A path can lead to a server that is down, to a disk that does not answer, or
// into a tree of pbsfs whose process is stopped; and into the tree that the
// asking process serves itself, which would then wait for itself, beyond SIGKILL.
//
// [Follow] goes component by component, with descriptors that open nothing, and
// asks the mount table before it takes a step further: what lies behind the top
// of a mounted tree of pbsfs is taken as it is written, and never touched.
// [Resolve] is Follow with a bound on the time it may take; [Try] is that for
// anything else. [Memory] remembers what was found, and what hangs, so that a
// path that hangs has one goroutine and is waited for once.
//
// Nothing here takes a lock that others wait for, and nothing here may be called
// while one is held.
package reach
