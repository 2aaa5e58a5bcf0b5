// Package mounts knows what is mounted: the tables of this and of other namespaces,
// what lies upon what, who keeps a mount in use, and how one mount is taken away and
// no other. Mounts are told by their number, never by what a path leads to: see
// [UnmountOnly].
//
// [Holders] finds who keeps a mount in use, from /proc and /sys alone. Nothing here
// looks into a mount: that may hang.
package mounts
