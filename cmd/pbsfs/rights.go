package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usher"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// What decodes the bytes of a datastore holds no more rights than it needs. A process
// that serves a tree has an usher for the rest; a command that reads needs no rest.

// forReading returns the capabilities with which a datastore is read and operations are
// counted. Places are where files are written.
//
//   - CAP_DAC_READ_SEARCH: a datastore belongs to the user backup, and others may not read it.
//   - CAP_FOWNER: to open its files without changing their access times, by which a server
//     tells which chunks are garbage.
//   - CAP_DAC_OVERRIDE and CAP_CHOWN: where operations and locks are those of a server,
//     or lie in directories of others.
//   - CAP_SYS_PTRACE: where /proc hides processes, and operations of live processes would
//     be taken for those of dead ones.
func forReading(host hosts.Host, places ...string) confine.Capabilities {
	keep := confine.Set(unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER)
	places = append(places, host.ConfigDir(), host.RunDir(), host.OwnRunDir(), host.OperationsDir(), host.LocksDir())
	if host.Files().Set || slices.ContainsFunc(places, ofAnother) {
		keep |= confine.Set(unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN)
	}
	if procHides() {
		keep |= confine.Set(unix.CAP_SYS_PTRACE)
	}
	return keep
}

// ofAnother reports whether a file, or the directory in which it would be made, belongs
// to another user.
func ofAnother(path string) bool {
	for path != "" {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if err == nil {
			return int(st.Uid) != os.Geteuid()
		}
		if up := filepath.Dir(path); up == path || !errors.Is(err, unix.ENOENT) {
			return true // nothing is known of it
		}
		path = filepath.Dir(path)
	}
	return false
}

// procHides reports whether /proc shows only some processes to who has no capability.
func procHides() bool {
	table, err := mounts.Mounts()
	if err != nil {
		return true
	}
	m, ok := table.At("/proc")
	return !ok || strings.Contains(m.SuperOptions, "hidepid=") && !strings.Contains(m.SuperOptions, "hidepid=off") && !strings.Contains(m.SuperOptions, "hidepid=0")
}

// confineTo gives up all capabilities but some, and the system calls that only who does
// more than read and serve has a use for.
func confineTo(keep confine.Capabilities) error {
	_, err := procfs.Around() // some of which only the capabilities show
	return errors.Join(err, confine.Keep(keep), confine.DenyCalls())
}

// usherName is the internal command that is an usher.
const usherName = "usher"

// startUsher starts the process that does for this one what needs rights.
func (a *app) startUsher(o *mountOptions) (*usher.Usher, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{usherName}
	for flag, dir := range map[string]string{"--config-dir": a.configDir, "--run-dir": a.runDir} {
		if dir != "" {
			args = append(args, flag, dir)
		}
	}
	env := slices.DeleteFunc(unlock.WithoutPassphrases(os.Environ()), func(v string) bool {
		return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_")
	})
	return usher.Start(self, env, append(args, "--", o.mountpoint)...)
}

// newUsherCommand makes the command that a process that serves a tree runs.
func newUsherCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    usherName + " MOUNTPOINT",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			// The process that it is for ends by these, and needs it until then.
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
			host, err := a.host()
			if err != nil {
				return err
			}
			return usher.Serve(context.Background(), usher.Options{
				Host: host, Mountpoint: args[0], Code: exitCode, Answers: []string{ownProgram, answersName},
			})
		},
	}
}
