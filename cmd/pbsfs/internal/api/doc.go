// Package api is the HTTP interface of pbsfs serve.
//
// Where Proxmox Backup Server has a word for something, that word is used: paths,
// parameters and fields are those of reference "api", so that programs written for the
// server work. An answer is {"data": …}. A failure is the status that HTTP has for it,
// with one message as text. What the server has no word for lies below pbsfs/.
//
// # Declarations
//
// An operation is declared once: its method and path, the role that it needs, a struct for
// its parameters and one for its answer. The handler, the checks of the parameters and
// the OpenAPI description are made from that declaration, so they cannot disagree. Text
// from outside becomes a value when the parameters are parsed; paths on disk are only
// ever made from such values.
//
// # Reading
//
// Whatever is read is an operation of this process, counted and refused like that of a
// mount, through store/tree. Between requests nothing of a datastore is open. A download
// that meets damage is cut off so that no client takes it for whole, and the damage is
// among the problems of the datastore.
//
// # Limits
//
// Bodies are bounded, and so is the number of downloads at once. A client that does not
// read in time is given up, and never waited for. No lock is held while anything is read
// or sent.
package api
