// Package unmount takes trees away, and the devices under them.
//
// It examines everything that is to be unmounted before it touches any of it: either
// the unmount is refused and nothing has changed, or it succeeds. A refusal names the
// processes in the way. An unmount returns when the processes that served the trees
// have ended. With force, trees are taken away while they are in use, and the package
// reports what that leaves behind.
//
// While the device of a removable datastore is unmounted, the datastore's maintenance
// mode is unmount. Afterwards no program uses the disk. If a command is killed, the
// next one takes back the mode that it left. The package refuses an unmount of what is
// in use, or of a tree whose process does not answer.
package unmount
