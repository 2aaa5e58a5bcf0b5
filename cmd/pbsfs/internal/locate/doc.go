// Package locate finds the datastore that somebody means, and the device under it.
//
// A Target is a datastore that was named: by a name in datastore.cfg, by a path, or by
// the device that it lies on. It has the name under which its operations are counted,
// whichever way it was named. Attach mounts a device that is not mounted, read-only and
// without a byte of it being changed, and gives back what it took when it ends.
//
// Devices that are mounted in the run directory are shared by all trees on them. Who
// uses them is recorded there, under a lock that commands hold for moments; what a
// killed one left is put in order by the next. Looks at places that may hang end in
// bounded time. It refuses a device that the server of the host would mount, unless a
// rescue is asked for, and what holds no datastore.
package locate
