package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/fault"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usher"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/store"
)

// serve mounts the tree and serves it until the mount ends. It calls ready when the
// tree answers.
func (a *app) serve(ctx context.Context, o *mountOptions, s *unlock.Secrets, ready func(warning string) error) error {
	if !s.Empty() {
		if err := unlock.GuardMemory(); err != nil {
			return err
		}
	}
	host, err := a.host()
	if err != nil {
		return err
	}
	self, err := procfs.MarkSelf()
	if err != nil {
		return err
	}
	log, closeLog, err := a.openLog(logOptions{o.logTo, o.foreground, o.untracked, o.style}, host)
	if err != nil {
		return err
	}
	defer closeLog()
	if o.hands, err = a.startUsher(ctx, host, o); err != nil {
		return err
	}
	defer o.hands.Close()
	// Nothing before this may have asked for a path that could hang.
	if a.confine != nil {
		if err := a.confine(o.capabilities(host), confine.Mounting); err != nil {
			log.Warn("this process could not give up all rights that it does not need", "error", err)
		}
	}
	host = host.Freed(o.hands.FreeConfigLock)
	host.Places().AskForPaths(o.hands.PathOnDisk)
	t, err := o.hands.Attach(ctx, usher.Attach{Request: o.request(), For: self})
	switch {
	case err != nil:
		return err
	case t.There:
		return ready("")
	case o.again && o.mountedAlready(ctx, t.Path):
		return errors.Join(ready(""), o.hands.End(false))
	}
	if err := a.serveTree(ctx, host, t, o, s, log, ready); err != nil {
		return errors.Join(err, o.hands.End(false))
	}
	return nil
}

// capabilities returns those that this process needs while it serves the tree.
func (o *mountOptions) capabilities(host hosts.Host) confine.Capabilities {
	keep := forReading(host)
	if o.metrics.Socket() != "" { // in whatever directory
		keep |= confine.Set(unix.CAP_DAC_OVERRIDE)
	}
	if o.metrics.Privileged() {
		keep |= confine.Set(unix.CAP_NET_BIND_SERVICE)
	}
	return keep
}

// mountedAlready reports whether the tree of the datastore is mounted where it is to be.
func (o *mountOptions) mountedAlready(ctx context.Context, path string) bool {
	trees, err := mountpoint.TreesAt(ctx, o.mountpoint)
	return err == nil && len(trees) > 0 && trees[0].Source == path && !mountpoint.IsDead(trees[0])
}

// request returns what is to be mounted.
func (o *mountOptions) request() locate.Request {
	return locate.Request{Datastore: o.datastore, Device: o.device, Path: o.path, PathSet: o.pathSet, Rescue: o.rescue, Standby: o.standby}
}

// serveTree mounts the tree of a datastore whose device is mounted, and serves it.
func (a *app) serveTree(ctx context.Context, host hosts.Host, t *usher.Attached, o *mountOptions, s *unlock.Secrets, log *slog.Logger, ready func(warning string) error) error {
	if err := mountpoint.Check(ctx, o.mountpoint, t.Path, o.flags.nonempty); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(o.mountpoint); err == nil {
		o.mountpoint = real // the form that is in the mount table
	}
	if err := checkFUSE(o.flags.allowOther); err != nil {
		return err
	}
	var uncached error
	o.metadataDir, uncached = o.diskCache.ready(a.getenv, os.Geteuid())
	if uncached != nil {
		log.Warn("metadata is kept in memory alone", "error", uncached)
	}
	o.cacheEncrypted = o.diskCache.encrypted
	ref, err := a.openTarget(ctx, host, t.Target, o.openOptions, s, log)
	if err != nil {
		return err
	}
	serveWhileDecoding()
	boundHeap(o.maxInodes)
	log = log.With("datastore", ref.Name(), "mountpoint", o.mountpoint)
	defer a.moment.allow(0)() // signals end the mount, which may take as long as it needs
	shown, err := o.listenMetrics(ctx, ref, log)
	if err != nil {
		_ = ref.Close()
		return err
	}
	defer shown.Close()
	m, err := o.mountTree(ctx, ref, t.Path, shown.failed, log)
	if err != nil {
		_ = ref.Close()
		return err
	}
	shown.mounted(m)
	fault.At("tree mounted")
	warning := t.Warning
	tell := func(text string, err error) {
		if err != nil {
			log.Warn(text, "error", err)
			warning += fmt.Sprintf("pbsfs: warning: %s: %v\n", text, err)
		}
	}
	record, err := served.Leave(host, ref, m.At())
	tell("other commands will not find this mount", err)
	defer record.Remove()
	answers, err := served.Listen(record, m, ref, log)
	tell("'pbsfs status' will not see what is open here", err)
	defer answers.Close()
	if ref.Untracked() {
		warning += "pbsfs: warning: untracked: maintenance and unmounting of the datastore's disk do not see what is read here\n"
	}
	stop := stopSignals()
	if ctx.Err() != nil && len(stop) == 0 {
		stop <- syscall.SIGTERM // a signal that came earlier
	}
	if err := ready(warning + unfitKeys(ctx, ref, s, log)); err != nil {
		log.Warn("who asked for the mount could not be told that it is there", "error", err)
	}
	log.Info("mounted", "path", ref.Path(), "version", version())
	pings := o.keepPinging(log)
	err = a.wait(m, ref, o, stop, log)
	pings.end()
	if !t.Device {
		return err
	}
	if err := o.hands.End(true); err != nil { // this error cannot be reported anywhere else
		log.Warn("the device stays mounted", "error", err)
	}
	return err
}

// serveWhileDecoding makes Go run more threads than there are processors. Chunks are
// decoded on all processors, in loops that Go cannot interrupt, and requests that can
// be answered from memory would wait for them. The kernel shares a processor between
// threads at once.
func serveWhileDecoding() { runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0)) }

// mountTree mounts the tree. No other command can mount on the same directory
// meanwhile.
func (o *mountOptions) mountTree(ctx context.Context, ref *store.Lookup, path string, failed func(error), log *slog.Logger) (*fs.Mount, error) {
	lock, err := mountpoint.Acquire(ctx, o.mountpoint)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if err := mountpoint.Check(ctx, o.mountpoint, path, o.flags.nonempty); err != nil {
		return nil, err
	}
	return fs.New(ref, o.mountpoint, fs.Options{
		AllowOther: o.flags.allowOther, UID: o.flags.uid, GID: o.flags.gid, Umask: o.flags.umask,
		NoExec: o.flags.noexec, MaxInodes: o.maxInodes, Failed: failed, Log: log, Debug: o.debug,
		Hands: o.hands,
	})
}

const (
	// heapBytes is the limit of Go's heap without the objects that the kernel knows. It
	// is more than the heap needs: at the limit, Go would collect without end, even
	// when idle. Blocks of chunks lie elsewhere; the program itself takes the rest of
	// 100 MiB.
	heapBytes = 88 << 20
	// heapGrowth is how much the heap may grow before it is collected, in percent of
	// the memory in use.
	heapGrowth = 100
)

// boundHeap makes Go collect memory before its use exceeds what pbsfs promises.
func boundHeap(maxInodes int) {
	debug.SetGCPercent(heapGrowth)
	if maxInodes > 0 {
		debug.SetMemoryLimit(heapBytes + int64(maxInodes)<<10)
	}
}

// unfitKeys returns a warning about keys that fit no snapshot.
func unfitKeys(ctx context.Context, ref *store.Lookup, s *unlock.Secrets, log *slog.Logger) string {
	list, _, err := s.Open()
	if err != nil || ref.Away() != nil { // then it cannot be known
		return ""
	}
	left, err := unlock.Unfit(ctx, ref, list)
	if err != nil {
		log.Warn("looking for what the keys fit", "error", err)
	}
	return unlock.UnfitWarning(left)
}

// stopSignals returns a channel for the signals that end a mount. The first signal no
// longer ends the process by itself.
func stopSignals() chan os.Signal {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	return stop
}

// wait returns when the mount has ended, by an unmount or by a signal.
func (a *app) wait(m *fs.Mount, ref *store.Lookup, o *mountOptions, stop chan os.Signal, log *slog.Logger) error {
	var cut []fs.Handle
	select {
	case <-m.Ended():
		if m.CutOff() {
			log.Error("the kernel was told to cut off the mount")
			return fmt.Errorf("the kernel was told to cut off the mount, which is dead; 'pbsfs unmount %s' takes it away", o.mountpoint)
		}
	case s := <-stop:
		log.Info("ending", "signal", s.String(), "open", len(m.Handles()))
		toManager(daemon.SdNotifyStopping, log)
		ctx, cancel := context.WithTimeout(context.Background(), o.stopTimeout)
		defer cancel()
		go func() { // a second signal ends the wait
			select {
			case <-stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		var err error
		if cut, err = m.Stop(ctx); err != nil {
			return err
		}
	}
	if len(cut) > 0 {
		return cutOff(cut, log)
	}
	log.Info("unmounted")
	return ref.Close()
}

// cutOff logs which handles were open when the mount was taken away.
func cutOff(cut []fs.Handle, log *slog.Logger) error {
	text := fmt.Sprintf("unmounted while %d files or directories were open; cut off:", len(cut))
	for _, h := range cut {
		log.Warn("cut off", "path", h.Path, "opened_by", h.Opener.PID, "name", h.Opener.Name)
		text += fmt.Sprintf("\n  /%s, opened by process %d (%s)", h.Path, h.Opener.PID, h.Opener.Name)
	}
	return &exitError{code: exitFailed, text: text}
}
