// Package integration tests everything together: the real program, real FUSE
// mounts, real devices and real processes, on datastores that a real Proxmox
// Backup Server wrote.
//
// The tests build cmd/pbsfs once and use it as a user would. Each test has a
// host of its own, that is directories for configuration and run-time state,
// and so sees no other test's mounts. What a test mounts is unmounted when it
// ends, and then nothing may be left: no mount, no process, no record.
//
// Datastores and what is known to be in them are found through PBSFS_FIXTURES:
//
//	ds-basic ds-crypt ds-nasty ds-split   datastores, never written to
//	truth/ds-NAME/SNAPSHOT/ARCHIVE.jsonl  what is in them
//
// Without it, tests that need them are skipped and say so. So are those that
// need root, loop devices or a program that is not installed.
//
// A test waits for a condition, with a deadline that is far beyond what a slow
// machine needs. "make soak" lets the tests that find more the longer they run go on
// for PBSFS_SOAK; "make test" gives them seconds.
//
// The benchmarks, which "make bench" runs, alternate between pbsfs and its peers
// round by round and report medians and their ratios.
package integration
