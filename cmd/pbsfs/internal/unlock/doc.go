// Package unlock opens the keys of encrypted snapshots: those that a user names,
// the official client's default key, those that a server keeps for its sync jobs,
// and master keys. Passphrases come from what was named with a key, from the
// environment, or from the terminal; never from an argument, which everybody can
// see.
//
// A process that has opened a key must call [GuardMemory] before. Opened keys are
// handed from one process to the next as [Secrets], through a pipe.
package unlock
