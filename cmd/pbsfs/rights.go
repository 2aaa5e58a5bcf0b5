package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usher"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/procfs"
)

// What decodes the bytes of a datastore holds no more rights than it needs. A process
// that serves a tree has an usher for the rest; a command that reads needs no rest.

// forReading returns the capabilities with which a datastore is read and operations are
// counted.
//
//   - CAP_DAC_READ_SEARCH: a datastore belongs to the user backup, and others may not read it.
//   - CAP_FOWNER: to open its files without changing their access times, by which a server
//     tells which chunks are garbage.
//   - CAP_DAC_OVERRIDE and CAP_CHOWN: where operations and locks are those of a server,
//     or lie in directories of others.
//   - CAP_SYS_PTRACE: where /proc hides processes, and operations of live processes would
//     be taken for those of dead ones.
func forReading(host hosts.Host) confine.Capabilities {
	keep := confine.Set(unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER)
	places := []string{host.ConfigDir(), host.RunDir(), host.OwnRunDir(), host.OperationsDir(), host.LocksDir()}
	if host.Files().Set || slices.ContainsFunc(places, ofAnother) {
		keep |= confine.Set(unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN)
	}
	if procHides() {
		keep |= confine.Set(unix.CAP_SYS_PTRACE)
	}
	return keep
}

// forMounting are the capabilities with which devices and trees are mounted and taken
// away, and with which it is found out who is in the way.
var forMounting = confine.Set(unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_MKNOD, unix.CAP_KILL,
	unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_CHOWN, unix.CAP_FOWNER)

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

// confineTo gives up all capabilities but some, and the system calls that are not needed.
func confineTo(keep confine.Capabilities, calls confine.Calls) error {
	_, err := procfs.Around() // some of which only the capabilities show
	return errors.Join(err, confine.Keep(keep), confine.DenyCalls(calls))
}

// forRestoring are the capabilities with which files get back all that they had: owners,
// device nodes, flags, and attributes that only root may set. It writes what is reserved
// for root as well.
var forRestoring = confine.Set(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD,
	unix.CAP_SETFCAP, unix.CAP_LINUX_IMMUTABLE, unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE)

// confineReader confines a command that is about to read a datastore. Before that, it does
// what only root with all rights can: it takes away what killed commands have left, and
// root's config lock from users who have it for long.
func (a *app) confineReader(ctx context.Context, o openOptions) error {
	if a.confine == nil {
		return nil
	}
	host, err := a.host()
	if err != nil {
		return err
	}
	if _, err := locate.Configured(host); err != nil {
		return err
	}
	if os.Geteuid() == 0 && !host.IsPBS() && !o.untracked {
		ctx, cancel := context.WithTimeout(ctx, lockPatience)
		defer cancel()
		if lock, err := hosts.LockOwnConfig(ctx, host); err == nil { // who registers tells why it cannot
			lock.Unlock()
		}
	}
	if table, err := mounts.Mounts(); err != nil || slices.ContainsFunc(table, func(m mounts.Mount) bool { return m.FSType == "btrfs" }) {
		o.rights |= confine.Set(unix.CAP_SYS_ADMIN) // which tells where on the disk a datastore lies
	}
	if err := a.confine(forReading(host)|o.rights, confine.Mounting); err != nil {
		return a.warn(fmt.Sprintf("pbsfs: warning: this process could not give up all rights that it does not need: %s\n", oneLine(err.Error())))
	}
	return nil
}

// lockPatience is more than it takes to free root's config lock from users.
const lockPatience = 4 * time.Second

// confineServe confines a process that serves requests. One of root asks who is in the
// way of a maintenance, in all mount namespaces, and takes trees and devices away; one
// of any other user has fusermount3 do that, which must then be more than its user.
func (a *app) confineServe() error {
	if a.confine == nil || os.Geteuid() != 0 {
		return nil
	}
	return a.confine(forMounting|confine.Set(unix.CAP_NET_BIND_SERVICE), confine.Foreign)
}

// usherName is the internal command that is an usher.
const usherName = "usher"

// startUsher starts the process that does for this one what needs rights.
func (a *app) startUsher(ctx context.Context, host hosts.Host, o *mountOptions) (*usher.Usher, error) {
	if a.confine == nil {
		return usher.Within(context.WithoutCancel(ctx), usher.Options{Host: host, Mountpoint: o.mountpoint, Code: exitCode, Answers: []string{ownProgram, answersName}})
	}
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
			if os.Geteuid() == 0 { // fusermount3 needs to be more than a user who runs it
				if err := confine.Keep(forMounting); err != nil && !errors.Is(err, confine.ErrOneThread) {
					return err
				}
			}
			host, err := a.host()
			if err != nil {
				return err
			}
			return usher.Serve(context.Background(), usher.Options{
				Host: host, Mountpoint: args[0], Code: exitCode, Process: true, Answers: []string{ownProgram, answersName},
			})
		},
	}
}
