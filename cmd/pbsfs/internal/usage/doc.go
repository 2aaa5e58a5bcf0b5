// Package usage has the error for a wrong command line. It has an exit code of its own.
package usage
