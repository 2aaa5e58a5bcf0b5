// Package compare tells what has changed from one snapshot to another, or within a group.
//
// Contents are compared by the digests of their chunks first: [SameContent] and [Ranges]
// read only where two contents are cut differently, or where a digest does not tell.
// [Trees] compares two directories with everything below them. It does not enter what
// [tree.Alike] knows to be the same, so it takes about as long as what has changed is
// large. [Moves] makes one change of a file that was removed here and added there.
// [Versions] is what became of one path in a group.
//
// # Damage
//
// What cannot be read is told through [Options.Problem], the rest is compared. A name that
// only one side has is no change if the listing of the other side is not complete.
//
// # Rights
//
// Each side is read with a right of its own, which the caller holds. Nothing is kept open,
// and no goroutine outlives a call.
package compare
