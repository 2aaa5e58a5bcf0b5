// Package certificate has the TLS certificate of pbsfs serve: one that an administrator
// names ([Load]), or one that pbsfs makes for itself ([Own]).
//
// The key must not be readable by everybody ([ErrExposed]); it may be readable by a
// group, as keys that several services share often are. A certificate that an
// administrator names is used as it is, or refused with an error that names the file.
//
// Our own certificate signs itself, so clients cannot check it against an authority.
// They pin its [Fingerprint], which is written as Proxmox Backup Server writes its own.
// Therefore a pair that can be used is never replaced, whatever hosts are asked for. A
// pair is made anew when it has expired, or when its files are missing or do not belong
// together. A pair that cannot be read because of permissions, or that is exposed, is an
// error, because a new pair would need all clients to change.
//
// The key is written before the certificate, under a lock. A process that was killed in
// between leaves files that do not belong together, so the next one makes both anew.
// Processes that start at once get the same pair.
package certificate
