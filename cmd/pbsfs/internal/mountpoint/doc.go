// Package mountpoint knows the directories that trees are mounted on: whether a tree
// may be mounted on one, which trees are there, and who is in the way of taking one
// away.
//
// It looks at the mount table and at the directory itself, never into what is mounted
// there, which may hang; each look ends in bounded time. Whoever mounts holds the Lock
// of the directory, so that two commands do not lay one tree upon the other. It
// refuses a directory on, in or above the datastore, one that has a tree already, and,
// unless that is asked for, one that is not empty.
package mountpoint
