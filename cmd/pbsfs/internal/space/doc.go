// Package space says how much the groups and snapshots of a datastore refer to, and how
// much only they do.
//
// [Measure] reads the indexes of all snapshots, and no chunk. Sizes are those of the data
// in chunks, before it is compressed: what the indexes say. A chunk that a snapshot has
// several times counts once. With Options.Stored the files of the chunks are looked at,
// too, each once: that gives what would be freed on disk by the garbage collection after a
// snapshot or a group is removed.
//
// # What belongs to whom
//
// Snapshots are read group by group, so that those of a group have consecutive numbers. Of
// each distinct chunk the first and the last snapshot that refer to it are remembered. If
// they are the same snapshot, the chunk is that snapshot's alone; if they are of one group,
// the group's. If indexes do not agree on the size of a chunk, the first one is believed.
//
// # Locks
//
// A snapshot is locked while its indexes are read, not longer: what is removed afterwards
// is still in the figures. A snapshot that is removed before is left out.
//
// # Memory
//
// 48 bytes for each distinct chunk, some 200 for each snapshot, and the largest index.
package space
