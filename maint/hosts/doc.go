// Package hosts knows where the files of a host lie: datastore.cfg, the operations
// files and their locks, the files that a Proxmox Backup Server shares with us, and our
// own files.
//
// A [Host] is a value. It is found once ([NewHost]) or made of a known [Layout]. This
// package takes the locks of configurations, first our own, then root's, shared. If a
// lock cannot be had in time, the error says which process holds it.
package hosts
