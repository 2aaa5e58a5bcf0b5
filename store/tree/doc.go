// Package tree is the tree that a user sees of a datastore, without FUSE.
//
//	host/NAME/TIME/root.pxar/etc/fstab
//	vm/100/latest -> TIME
//	ns/prod/ns/db/host/…
//
// A [Node] is one object of the tree: its attributes and where it lies. It is
// immutable, in memory, holds nothing open and gives no right to read: looking
// up a child, listing and opening take a [store.CanRead]. The FUSE face and the
// commands that read without FUSE both stand on this package, so that they
// cannot differ.
//
// # Identity
//
// A node's [ID] is SHA-256 over the way to it: each name is hashed with the ID
// above it, and the checksum of its index with the name of an archive. A hard
// link has the ID of the file it is a link to. IDs are the same after a
// remount, and two states of one name have two.
//
// # What changes
//
// Nodes that lie in an archive, and images, are [Node.Frozen]: they can be
// remembered for ever. Everything else is to be looked up again.
//
// # Damage
//
// What the manifest lists is in the tree, readable or not. An archive that
// cannot be opened is a directory that cannot be entered; a listing with
// entries that cannot be shown says so at its end ([Listing], [Entry.Err]).
// Where the catalog has the names of an archive's directory, the listing is
// complete though entries are damaged: to look those up is an error.
package tree
