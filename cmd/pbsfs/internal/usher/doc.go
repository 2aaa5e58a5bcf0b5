// Package usher splits the process that serves a tree in two. The one that decodes what
// lies in a datastore gives up what it may do, before it has read anything. The other,
// its usher, keeps it, reads nothing of a datastore's contents, and does on request only
// what one mount needs: finding and mounting the device, mounting the tree once, where
// its own command line says, and taking both away; asking whether the tree answers; and
// freeing root's config lock from ordinary users.
//
// The usher is a child of the serving process. They talk on a socket that nobody else
// has: one message for each request and answer, several at once. The usher ignores the
// signals that end the serving process, and ends when the socket does. It then takes
// away nothing but a device that no tree was mounted for: after a kill, the next command
// finds the same as ever. If the usher is killed, the tree is served on, and 'pbsfs
// unmount' takes it away.
//
// A [Usher] may be used concurrently. Its lock is a leaf.
package usher
