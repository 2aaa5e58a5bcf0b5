// Command bench measures mounts of pbsfs beside other ways to reach the same
// files: the files themselves, squashfs in the kernel and through FUSE, restic.
//
// It makes its data from real files of this machine: a tree, stored as an archive
// in both formats and in the peers' own, and a disk image. Each row of its table
// is a whole use of a mount by a common program. It begins with a new mount and,
// for root, with nothing in the kernel's caches. Subjects take turns, in another
// order each round, so that what disturbs the machine disturbs all of them.
//
// The table shows medians, their spread, and what each needs in proportion to the
// first subject. Memory is the highest that the serving process had.
package main
