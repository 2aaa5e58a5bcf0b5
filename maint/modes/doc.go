// Package modes knows which mode binds a datastore. One datastore may have several entries
// in several datastore.cfg and be reached by many paths; it is told by what it is (package
// identity), and the strictest mode of all its entries binds. What was listed and is not
// any more is unlisted, which counts as offline; an entry whose place does not answer in
// time counts by its name alone.
//
// A [Source] reads the files again only when they have changed. Its lock guards the
// memory of the last reading, and is never held across I/O.
package modes
