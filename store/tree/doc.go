// Package tree is the tree that a user sees of a datastore, without FUSE.
//
//	host/NAME/TIME/root.pxar/etc/fstab
//	vm/100/latest -> TIME
//	ns/prod/ns/db/host/…
//
// A [Node] is one object of the tree: its attributes and its place. It is immutable, in
// memory, holds nothing open and gives no right to read: Lookup, List and Open take a
// [store.CanRead]. The FUSE face and the commands that read without FUSE both use this
// package, so they show the same tree.
//
// # Identity
//
// A node's [ID] is a SHA-256 over its path: each name is hashed with the ID above it,
// and the name of an archive also with the checksum of its index. A hard link has the
// ID of its target. IDs are the same after a remount, and two states of one name have
// different IDs.
//
// # What changes
//
// Nodes in an archive, and images, are [Node.Frozen]: they may be cached for ever. All
// other nodes must be looked up each time.
//
// # Damage
//
// Everything that the manifest lists is in the tree, readable or not. An archive that
// cannot be opened is a directory that cannot be entered. A listing with entries that
// cannot be shown says so at its end ([Listing], [Entry.Err]). If the catalog has the
// names of an archive's directory, the listing is complete even if entries are damaged:
// the lookup of such an entry is an error.
package tree
