// Package unlock opens the keys of encrypted snapshots: the keys that a user names, the
// official client's default key, the keys that a server keeps for its sync jobs, and
// master keys. A passphrase comes from a source that was named with the key, from the
// environment, or from the terminal. It never comes from an argument, which every user
// can see.
//
// A process must call [GuardMemory] before it opens a key. Opened keys are passed from
// one process to the next as [Secrets], through a pipe.
package unlock
