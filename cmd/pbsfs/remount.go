package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// fromTable are options that the kernel shows of a FUSE mount. mount(8) repeats them.
var fromTable = []string{"user_id=", "group_id=", "rootmode=", "fd=", "max_read=", "blksize="}

// remount answers 'mount -o remount'. Everything is decided when a tree is mounted, so it
// succeeds only where nothing is to be changed: mount(8) repeats the options that the
// mount has, and those of its line in fstab.
func (a *app) remount(ctx context.Context, dir string, words []string) error {
	trees, err := mountpoint.TreesAt(ctx, dir)
	if err != nil {
		return err
	}
	if len(trees) == 0 {
		return fmt.Errorf("remount: no tree is mounted on %s; mount it first", dir)
	}
	has := append(strings.Split(trees[0].Options, ","), strings.Split(trees[0].SuperOptions, ",")...)
	has = append(has, a.givenTo(trees[0])...)
	var changed []string
	for _, w := range words {
		switch {
		case w == "remount", isAccepted(w), slices.Contains(has, w):
		case slices.ContainsFunc(fromTable, func(prefix string) bool { return strings.HasPrefix(w, prefix) }):
		default:
			key, _, _ := strings.Cut(w, "=")
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return fmt.Errorf("remount cannot change %s: unmount %s, and mount it again (only this can be done to a mounted tree: 'pbsfs key add %s' adds keys, and 'mount -o remount,bind,noexec %s' keeps programs from running)",
		strings.Join(changed, ", "), dir, dir, dir)
}

// givenTo returns the options with which the process was started that serves a tree, none
// if it cannot be asked.
func (a *app) givenTo(m mounts.Mount) []string {
	host, err := a.host()
	if err != nil {
		return nil
	}
	known, err := served.Records(host)
	if err != nil {
		return nil
	}
	r := served.Find(known, m)
	if r == nil || !r.Alive() {
		return nil
	}
	line, err := os.ReadFile(procfs.ProcPath(r.PID, "cmdline"))
	if err != nil {
		return nil
	}
	var given []string
	args := strings.Split(string(line), "\x00")
	for i, arg := range args[1:] {
		if args[i] == "-o" {
			given = append(given, splitOptions(arg)...)
		}
	}
	return given
}
