// Package mountlist reads the directory with the mounts of a host: one file NAME.conf for
// each, in the form that systemd reads as an EnvironmentFile.
//
//	DATASTORE=tank
//	MOUNTPOINT=/mnt/backups
//	OPTIONS=allow_other,cache_size=1GiB
//	AUTO=yes
//
// [Read] refuses a file that says something else, and names it, and still returns the
// other mounts. It reads only what systemd understands in the same way: a value with a
// backslash or a quote in it must be in quotes. The package keeps nothing, and has no
// locks.
package mountlist
