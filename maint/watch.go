package maint

import (
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

// watchEvery is how often the watcher looks without having got an event.
const watchEvery = time.Second

// look reads the mode for the watcher. A mode that cannot be read counts as offline, as
// it does for operations, which cannot be registered then.
func (o *Operations) look() cfg.Mode {
	b, file, err := o.modes.Current(o.stop)
	if err != nil {
		return cfg.Mode{Type: cfg.Unknown, Problem: file + ": " + err.Error()}
	}
	return b.Mode
}

// startWatch starts the watcher if a callback wants to be told. Operations need no
// watcher: they look at the mode themselves, and descriptors that linger are closed
// within 100 ms anyhow.
func (o *Operations) startWatch() {
	if o.opts.Changed == nil && o.opts.DropCaches == nil && (!o.opts.Host.IsPBS() || o.opts.Untracked) {
		return
	}
	last := o.mode
	o.running.Go(func() { o.watch(last) })
}

// watch reports changes of the mode until Close. inotify reports them at once; the poll
// finds every change, even while a directory does not exist yet.
func (o *Operations) watch(last cfg.Mode) {
	dirs := o.watchedDirs()
	events := make(chan fsnotify.Event)
	var errs chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = watcher.Close() }()
		events, errs = watcher.Events, watcher.Errors
	} else {
		o.opts.Log.Debug("no inotify, polling only", "error", err)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if watcher != nil {
			rewatch(watcher, dirs)
		}
		last = o.tell(last)
		o.checkDaemons()
		if !o.nextNews(events, errs, tick.C) {
			return
		}
	}
}

// nextNews waits for an event that may have changed what we watch. It returns false on
// Close.
func (o *Operations) nextNews(events <-chan fsnotify.Event, errs <-chan error, tick <-chan time.Time) bool {
	names := []string{cfg.FileName, "proxy.pid", "api.pid"}
	for {
		select {
		case <-o.stop.Done():
			return false
		case e := <-events:
			if slices.Contains(names, filepath.Base(e.Name)) {
				return true
			}
		case err := <-errs:
			o.opts.Log.Debug("events of the configuration directory were lost", "error", err)
			return true
		case <-tick:
			return true
		}
	}
}

// watchedDirs returns directories rather than files, because the files are replaced.
func (o *Operations) watchedDirs() []string {
	var dirs []string
	for _, place := range o.opts.Host.Configs() {
		dirs = append(dirs, place.Dir)
	}
	if o.opts.Host.IsPBS() {
		dirs = append(dirs, o.opts.Host.RunDir())
	}
	return dirs
}

// rewatch adds the directories that are not watched: they may have been missing before,
// or have been replaced.
func rewatch(watcher *fsnotify.Watcher, dirs []string) {
	list := watcher.WatchList()
	for _, dir := range dirs {
		if !slices.Contains(list, dir) {
			_ = watcher.Add(dir) // the poll does what inotify cannot
		}
	}
}

// tell compares the mode with the last reported one and calls back if it differs.
func (o *Operations) tell(last cfg.Mode) cfg.Mode {
	names := o.modes.Counted()
	mode := o.look()
	o.sawMode(mode)
	if !slices.Equal(names, o.modes.Counted()) {
		o.displaySoon()
	}
	o.tellUnsure()
	if mode == last {
		return last
	}
	if o.opts.DropCaches != nil && !mode.Allows(cfg.Read) {
		o.opts.DropCaches()
	}
	if o.opts.Changed != nil {
		o.opts.Changed(mode)
	}
	return mode
}

// checkDaemons has the file updated soon if PBS's daemons were restarted while the file
// counts us.
func (o *Operations) checkDaemons() {
	if !o.opts.Host.IsPBS() || o.opts.Untracked {
		return
	}
	o.displaySoon()
}

// displaySoon has the file brought up to date if it counts us.
func (o *Operations) displaySoon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase == active {
		o.displayAt = time.Now()
		o.notify()
	}
}

// tellUnsure reports, once, which entries do not answer.
func (o *Operations) tellUnsure() {
	unsure := o.modes.Unsure()
	if slices.Equal(unsure, o.unsure) {
		return
	}
	o.unsure = unsure
	if len(unsure) > 0 {
		o.opts.Log.Warn("what these entries of datastore.cfg are about cannot be looked at; they count by name alone", "datastore", o.opts.Store, "entries", unsure)
	}
}
