// Package usage has the error of what is wrong on the command line alone, which
// ends a command with an exit code of its own.
package usage
