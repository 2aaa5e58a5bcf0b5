// Package hosts says where everything of a host lies: datastore.cfg, the operations
// files and their locks, what a Proxmox Backup Server shares with us, and what is our own.
//
// A [Host] is a value that is found once ([NewHost]) or made of a [Layout] that is
// known. The locks of configurations are taken here, the own one first, then root's,
// shared; a lock that is not to be had in time says who has it.
package hosts
