//go:build !pbsfs_faults

package main

// fault is where tests kill the process; see fault_on.go.
func fault(string) {}
