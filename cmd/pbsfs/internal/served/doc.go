// Package served finds the processes that serve trees, and asks them.
//
// A serving process leaves a Record in the run directory and answers on a socket
// beside it, which only its user can reach; both are put back when somebody removes
// them. Which tree is of which datastore is told by what the datastore is and by the
// device of the mount, for names, paths and mount points change. A Tree is a mount
// with what is known of the process behind it, also where that has its record in
// another run directory, hangs, or is gone.
//
// Each question ends in bounded time, and many are asked at once. Records of other
// users are believed as far as their processes and the mount table bear them out, and
// only root looks for them. Nothing is locked: records of ended processes are removed
// by whoever reads them, and those of others never are.
package served
