// Package status finds out what goes on with datastores, and who is in the way of a
// maintenance mode.
//
// A Store is all that is known of one datastore: its mode, its mounts, the operations
// of each process, who has what open, which snapshots are locked, and what went wrong.
// Its fields are the JSON of the command status, to which fields are added and none
// taken away; text for people is the command's. InUse is a refusal with those who are
// in the way in it.
//
// Nothing is locked, and nothing is changed. Processes are asked side by side and in
// bounded time; one that does not answer is a problem of its datastore, and no reason
// to show nothing.
package status
