// Package opsfile reads and writes a datastore's operations file. Each process states
// there what it does with the datastore, in the server's own form (reference
// "operations-and-maintenance", section 1).
//
// Entries of other processes are kept byte for byte. A file whose text cannot be parsed is a
// [*GarbledError] and is left alone, because it may hold the counts of others. The file
// is written under its lock, which the caller takes.
package opsfile
