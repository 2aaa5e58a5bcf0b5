// Package served finds the processes that serve trees, and sends them requests.
//
// A serving process leaves a Record in the run directory and answers on a socket beside
// it, which only its user can reach. It restores both if they are removed. The identity
// of the datastore and the device of the mount tell which tree belongs to which
// datastore, because names, paths and mount points change. A Tree is a mount with what
// is known of the process behind it, even if that process has its record in another run
// directory, hangs, or is gone.
//
// Each request ends in bounded time, and several processes are asked at once. A record
// of another user is believed only as far as its process and the mount table confirm
// it, and only root looks for such records. The package takes no locks. A reader
// removes the records of ended processes of its own user, and never those of other
// users.
package served
