// Package locate finds the datastore that a user names, and the device under it.
//
// A Target is a named datastore. The name may be one in datastore.cfg, a path, or the
// device with the datastore. However it was named, the Target has the name under which
// its operations are counted. Attach mounts a device that is not mounted, read-only and
// without changing a byte of it, and End gives back what Attach took.
//
// All trees on a device that is mounted in the run directory share that mount. A record
// there lists its users, under a lock that commands hold only for moments. If a command
// was killed, the next one cleans up after it. Looks at places that may hang end in
// bounded time. The package refuses a device that the server of the host would mount,
// unless a rescue is asked for, and a place without a datastore.
package locate
