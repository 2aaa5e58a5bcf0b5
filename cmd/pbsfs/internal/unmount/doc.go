// Package unmount takes trees away, and the devices under them.
//
// What is to be unmounted is looked at as a whole before the first of it is touched:
// an unmount is refused and nothing has changed, or it succeeds. Who is in the way is
// named. It returns when the processes that served the trees have ended. By force,
// trees are taken away from under those who use them, and it says what that leaves
// behind.
//
// While the device of a removable datastore is unmounted, the datastore's maintenance
// mode is unmount, and the disk is in nobody's hands when that is over; a command that
// is killed leaves a mode that the next one takes back. It refuses what is in use, and
// what is served by a process that does not answer.
package unmount
