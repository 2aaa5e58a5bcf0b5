// Package fault names the steps at which tests kill a command: between one change on
// the host and the next. In programs for users it does nothing. It locks nothing and
// refuses nothing.
package fault
