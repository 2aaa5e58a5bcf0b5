// Package fault names the steps at which tests kill a command: between what has
// changed on the host and what is still to change. In the programs that people use,
// it does nothing. It locks nothing and refuses nothing.
package fault
