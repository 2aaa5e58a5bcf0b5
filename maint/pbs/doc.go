// Package pbs communicates with the Proxmox Backup Server of this host. It finds the
// server's daemons, increments the counter by which the server notices a changed
// configuration, and tells the server's proxy over its socket (reference
// "operations-and-maintenance", sections 1 and 3). On a host without a server it does
// nothing.
package pbs
