// Package mountpoint knows the directories on which trees are mounted: whether a tree
// may be mounted on one, which trees are there, and what keeps one from being taken
// away.
//
// It looks at the mount table and at the directory itself, never into a mount there,
// which may hang; each look ends in bounded time. A command that mounts holds the Lock
// of the directory, so that two commands do not mount one tree upon the other. The
// package refuses a directory on, in or above the datastore, a directory that has a
// tree already, and, unless the caller allows it, a directory that is not empty.
package mountpoint
