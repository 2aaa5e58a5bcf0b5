// Package find searches the snapshots of a backup group for files.
//
// All snapshots of a group are walked at once, directory by directory. At each directory
// those in which it is the same, with everything below it, are found by its [store.Mark],
// and it is walked once for all of them. So a search through a hundred snapshots that are
// the same takes little longer than one through a single snapshot. Where they differ, what
// differs must be read of each: chunks of a catalog, or most of a split archive's metadata.
// The same state of a file in many snapshots is one [Found].
//
// Names, types, sizes and times come from the catalogs where there are some, else from the
// archives, which also have owners and permissions; contents are never looked at. A
// catalog that is damaged is replaced by its archive. A catalog is made by its client: it
// is believed about names as a listing is.
//
// # Bounds
//
// What is held in memory is what one directory has in all snapshots, on the way from the
// top to where the search is, and of each snapshot its manifest. Only [tree.Holds] keeps
// snapshots locked, so that a group may have any number.
//
// # Damage
//
// What cannot be read is told through [Search.Problem], and the rest is found. A snapshot
// that is removed meanwhile is left out.
package find
