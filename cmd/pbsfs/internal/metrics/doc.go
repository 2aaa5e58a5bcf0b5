// Package metrics shows the numbers of a process that serves datastores to Prometheus. It
// alone knows Prometheus' library.
//
// Nothing is counted here but errors, by their kind: everything else is counted where it
// happens, in plain numbers, and is looked at when somebody asks. Looking reads nothing of a
// datastore and waits for none, so that the numbers are there when a datastore hangs.
//
// The numbers hold names of datastores and of the mount point, and how much is read; no
// names of snapshots, files or users, and no contents. There is no login: an address that
// more than this host can reach must be asked for.
package metrics
