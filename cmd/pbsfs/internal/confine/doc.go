// Package confine gives up what a process may do and does not need, for all of its
// threads and for good: capabilities, what programs with set-user-id bits would add, and
// system calls. It must be called early: a thread that hangs in a system call would be
// waited for. It takes no locks, and what it could not give up is an error, with all the
// rest given up.
//
// What is left is what the user is who runs the process: what belongs to root can be
// written by a process of root, with or without capabilities.
package confine
