// Package cfg is datastore.cfg and its property maintenance-mode, as text. It is a pure
// codec: it opens nothing. What it does not understand stays as it is, byte for byte, when
// something else is changed, and what a mode cannot be read from counts as one that
// forbids everything.
//
// The format is in the reference "operations-and-maintenance", sections 2 and 3.
package cfg
