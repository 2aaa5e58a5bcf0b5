// Package cfg parses and edits the text of datastore.cfg and of its property
// maintenance-mode. It is a pure codec: it opens nothing. An edit keeps everything that
// the package does not understand, byte for byte. A mode that cannot be read counts as
// one that forbids everything.
//
// The format is in the reference "operations-and-maintenance", sections 2 and 3.
package cfg
