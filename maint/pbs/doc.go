// Package pbs speaks with the Proxmox Backup Server of this host: who its daemons are, the
// counter by which it notices a changed configuration, and the socket on which its proxy
// is told (reference "operations-and-maintenance", sections 1 and 3). On a host without
// a server it does nothing.
package pbs
