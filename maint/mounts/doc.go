// Package mounts knows what is mounted: the mount tables of this and other namespaces,
// which mounts lie upon others, what keeps a mount in use, and how to take away exactly
// one mount. A mount is identified by its number, never by the path that leads to it:
// see [UnmountOnly].
//
// [Holders] finds what keeps a mount in use, from /proc and /sys alone. Nothing in this
// package looks into a mount, because that may hang.
package mounts
