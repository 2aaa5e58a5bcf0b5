// Package name holds the names of a datastore as value types: namespaces,
// backup groups, snapshots, the files of a snapshot, and the digests that name
// chunks.
//
// A value of these types is valid by construction: text becomes one through a
// Parse or New function, which applies the rules of the datastore (reference
// "datastore-layout", section 2), and stays one. All of them are comparable
// and can be map keys. The zero [Namespace] is the root namespace; the zero
// value of every other type names nothing and is never valid.
//
// The package opens nothing and imports nothing else of this module.
package name
