package maint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/opsfile"
	"github.com/pbsfs/pbsfs/maint/procfs"
	"github.com/pbsfs/pbsfs/maint/statefile"
)

// An ordinary user can put anything into a run directory: links, pipes, a file system
// that does not answer, the pids of other users' processes. Root looks only beneath the
// user's directory, opens only plain files that belong to the user, and believes only
// what they say of the user's own live processes. Anything else there is reported, and
// hinders root in nothing.

const (
	// userPatience bounds the time that root spends on all users' directories together.
	userPatience = 5 * time.Second
	// maxUserFile, maxUserNames and maxUserGuests bound what root reads of one user's
	// files.
	maxUserFile   = 1 << 20
	maxUserNames  = 1024
	maxUserGuests = 64
	// maxUserComplaints bounds how many faults in one user's files are reported.
	maxUserComplaints = 8
)

// UserDir is the run directory of an ordinary user.
type UserDir struct {
	base string // the user's directory, which another program made
	sub  string // ours in it
}

// Path returns the path of the directory.
func (d UserDir) Path() string { return filepath.Join(d.base, d.sub) }

// UserDirs returns the run directories of other users whose mounts root looks after.
// There are none for processes other than root's.
func UserDirs(host hosts.Host) []UserDir {
	h := host.Layout()
	var dirs []UserDir
	if h.ServerUsersRun != "" {
		dirs = append(dirs, UserDir{filepath.Dir(h.ServerUsersRun), filepath.Base(h.ServerUsersRun)})
	}
	if h.UsersRun == "" {
		return dirs
	}
	bases, _ := filepath.Glob(filepath.Dir(h.UsersRun))
	for _, base := range bases {
		dirs = append(dirs, UserDir{base, filepath.Base(h.UsersRun)})
	}
	if h.SpareUsers == "" {
		return dirs
	}
	spares, _ := filepath.Glob(h.SpareUsers)
	for _, base := range spares {
		dirs = append(dirs, UserDir{base, "."})
	}
	return dirs
}

// usersDirs returns those UserDirs whose operations count for root. Beside a server it
// returns none: users count in the server's own files there.
func usersDirs(host hosts.Host) []UserDir {
	if host.IsPBS() {
		return nil
	}
	return UserDirs(host)
}

// ErrUserFile is found in the complaints about files in a user's run directory.
var ErrUserFile = errors.New("not believed")

// OpenedUserDir is an open user's directory, with the user it belongs to.
type OpenedUserDir struct {
	UserDir
	UID  int
	base *os.File
}

// Open opens the directory without asking the file system in it for anything. The
// caller must Close it.
func (d UserDir) Open() (*OpenedUserDir, error) {
	if kind := slowKind(d.base); kind != "" {
		return nil, fmt.Errorf("%s: a file system of type %s is mounted there: %w", d.base, kind, ErrUserFile)
	}
	fd, err := unix.Open(d.base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.base, Err: err}
	}
	o := &OpenedUserDir{UserDir: d, base: os.NewFile(uintptr(fd), d.base)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		o.Close()
		return nil, &os.PathError{Op: "stat", Path: d.base, Err: err}
	}
	o.UID = int(st.Uid)
	return o, nil
}

// slowKind returns the type of the file system that is mounted on dir if a user may
// have mounted it and it may never answer.
func slowKind(dir string) string {
	all, err := mounts.Mounts()
	if err != nil {
		return ""
	}
	kind := ""
	for _, m := range all {
		if m.Point == dir {
			kind = m.FSType
		}
	}
	switch kind {
	case "", "tmpfs", "ramfs", "ext4", "xfs", "btrfs", "overlay":
		return ""
	}
	return kind
}

// Close closes the directory.
func (o *OpenedUserDir) Close() { _ = o.base.Close() }

// Handle returns a descriptor that names an entry beneath the directory, of any type,
// without opening the entry. The caller must close the descriptor.
func (o *OpenedUserDir) Handle(name string) (*os.File, error) { return o.open(name, unix.O_PATH) }

func (o *OpenedUserDir) open(name string, flags uint64) (*os.File, error) {
	path := filepath.Join(o.Path(), name)
	fd, err := unix.Openat2(int(o.base.Fd()), filepath.Join(o.sub, name), &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ReadFile reads a plain file that belongs to the user.
func (o *OpenedUserDir) ReadFile(name string) ([]byte, error) {
	h, err := o.Handle(name)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var st unix.Stat_t
	switch err := unix.Fstat(int(h.Fd()), &st); {
	case err != nil:
		return nil, &os.PathError{Op: "stat", Path: h.Name(), Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is not a regular file: %w", h.Name(), ErrUserFile)
	case int(st.Uid) != o.UID:
		return nil, fmt.Errorf("%s belongs to user %d: %w", h.Name(), st.Uid, ErrUserFile)
	case st.Size > maxUserFile:
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", h.Name(), maxUserFile, ErrUserFile)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(h.Fd())), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name(), err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxUserFile))
}

// Names lists the entries of one of the user's directories. If there are too many, it
// returns the first ones and an error.
func (o *OpenedUserDir) Names(dir string) ([]string, error) {
	f, err := o.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxUserNames)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && len(names) == maxUserNames {
		err = fmt.Errorf("%s holds more than is looked at: %w", f.Name(), ErrUserFile)
	}
	return names, err
}

// Owns reports whether a process runs as the user.
func (o *OpenedUserDir) Owns(pid int) bool { return procfs.OwnedBy(pid, o.UID) }

// Mounted looks among the mounts that a process of the user sees. It finds one of the
// given type that the user has made and for which match is true.
func (o *OpenedUserDir) Mounted(pid int, fsType string, match func(mounts.Mount) bool) (mounts.Mount, bool) {
	if !o.Owns(pid) {
		return mounts.Mount{}, false
	}
	mounted, err := mounts.MountsIn(procfs.ProcPath(pid, "mountinfo"))
	if err != nil {
		return mounts.Mount{}, false
	}
	by := "user_id=" + strconv.Itoa(o.UID)
	i := slices.IndexFunc(mounted, func(m mounts.Mount) bool {
		return m.FSType == fsType && slices.Contains(strings.Split(m.SuperOptions, ","), by) && match(m)
	})
	if i < 0 {
		return mounts.Mount{}, false
	}
	return mounted[i], true
}

// userTallies looks at the directories of all users at once, and for at most
// userPatience.
func userTallies(dirs []UserDir, names nameSet) Tally {
	results := make(chan Tally, len(dirs))
	for _, d := range dirs {
		go func() { results <- tallyOf(d, names) }()
	}
	over := time.After(userPatience)
	var all Tally
	for range dirs {
		select {
		case t := <-results:
			all.Processes = append(all.Processes, t.Processes...)
			all.Problems = append(all.Problems, t.Problems...)
		case <-over:
			all.Problems = append(all.Problems, fmt.Errorf("users' run directories do not answer: %w", ErrUserFile))
			return all
		}
	}
	return all
}

// tallyOf counts the operations of one user's processes.
func tallyOf(d UserDir, names nameSet) (t Tally) {
	o, err := d.Open()
	if err != nil {
		t.complain(err)
		return t
	}
	defer o.Close()
	files, err := o.Names(hosts.OperationsName)
	t.complain(err)
	for _, name := range names.among(files) {
		t.addUserFile(o, filepath.Join(hosts.OperationsName, name), 0)
	}
	guests, err := o.Names(guestsName)
	t.complain(err)
	for _, g := range guests[:min(len(guests), maxUserGuests)] {
		pid := o.guest(filepath.Join(guestsName, g))
		files, err := o.Names(filepath.Join(guestsName, g))
		t.complain(err)
		for _, name := range names.among(files) {
			if pid != 0 {
				t.addUserFile(o, filepath.Join(guestsName, g, name), pid)
			}
		}
	}
	t.Processes = mergedCounts(t.Processes)
	return t
}

// guest returns the process that a guest's directory belongs to: the process that holds
// the lock there. 0 means that there is none.
func (o *OpenedUserDir) guest(dir string) int {
	h, err := o.Handle(filepath.Join(dir, aliveName))
	if err != nil {
		return 0
	}
	defer h.Close()
	var st unix.Stat_t
	if unix.Fstat(int(h.Fd()), &st) != nil {
		return 0
	}
	return statefile.FlockHolder(st).PID
}

func (t *Tally) complain(err error) {
	if err != nil && !errors.Is(err, os.ErrNotExist) && len(t.Problems) < maxUserComplaints {
		t.Problems = append(t.Problems, err)
	}
}

// addUserFile adds what one of the user's operations files says. If pid is not 0, every
// entry in it is about that process.
func (t *Tally) addUserFile(o *OpenedUserDir, name string, pid int) {
	data, err := o.ReadFile(name)
	if err != nil {
		t.complain(err)
		return
	}
	entries, err := opsfile.Decode(data)
	if err != nil {
		t.complain(fmt.Errorf("%s is garbled (%w): %w", filepath.Join(o.Path(), name), err, ErrUserFile))
		return
	}
	foreign := 0
	for _, e := range entries {
		if pid != 0 {
			p, _ := procfs.LookProcess(pid)
			e.PID, e.StartTime = uint32(p.PID), p.StartTime
		}
		if e.Counts.Total() == 0 || e.Look() != procfs.Runs {
			continue
		}
		if !o.Owns(int(e.PID)) {
			foreign++
			continue
		}
		t.add([]opsfile.Entry{e}, true)
	}
	if foreign > 0 {
		t.complain(fmt.Errorf("%s counts for %d processes that are not of user %d: %w", filepath.Join(o.Path(), name), foreign, o.UID, ErrUserFile))
	}
}
