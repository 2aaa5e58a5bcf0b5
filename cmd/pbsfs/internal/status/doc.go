// Package status finds out what happens on datastores, and what is in the way of a
// maintenance mode.
//
// A Store is all that is known of one datastore: its mode, its mounts, the operations
// of each process, the open files with their users, the locked snapshots, and the
// problems. Its fields are the JSON of the command status; fields are added to it, but
// never removed. The command turns it into text for people. InUse is a refusal that
// names the processes in the way.
//
// The package locks nothing and changes nothing. It asks processes in parallel and in
// bounded time. If a process does not answer, that is a problem of its datastore, which
// is shown together with everything else.
package status
