// Package opsfile is a datastore's operations file: what each process says that it does
// with the datastore, in the server's own form (reference
// "operations-and-maintenance", section 1).
//
// Entries of others are kept byte for byte. A file with text that is not one's is a
// [*GarbledError], and is left alone: it may hide the counts of others. The file is
// written under its lock, which is the caller's to take.
package opsfile
