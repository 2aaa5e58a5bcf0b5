// Package reach follows paths without being blocked by a file system that hangs.
//
// A path can lead to a server that is down, to a disk that does not answer, or into a
// tree of pbsfs whose process is stopped. It can also lead into the tree that the
// calling process serves itself: the process would then wait for itself, and not even
// SIGKILL would help.
//
// [Follow] goes component by component, with descriptors that open nothing. Before each
// step it asks the mount table. The rest of a path behind the top of a mounted tree of
// pbsfs is taken as it is written, and never touched. [Resolve] is Follow with a time
// limit; [Try] is the same limit for any other call. [Memory] remembers what was found,
// and what hangs, so that a path that hangs has only one goroutine and is waited for
// only once.
//
// Nothing in this package takes a lock that others wait for, and nothing in it may be
// called while such a lock is held.
package reach
