// Package modes knows which mode binds a datastore. One datastore may have several
// entries in several datastore.cfg, and many paths may lead to it. It is identified by
// package identity, and the strictest mode of all its entries binds. A datastore that
// was listed and no longer is has the mode unlisted, which counts as offline. An entry
// whose place does not answer in time counts by its name alone.
//
// A [Source] reads the files only when they have changed. Its lock guards the memory of
// the last reading, and is never held across I/O.
package modes
