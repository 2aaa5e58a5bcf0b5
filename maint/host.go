package maint

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/statefile"
	"github.com/pbsfs/pbsfs/maint/text"
)

// Where PBS and pbsfs keep things when nobody says otherwise.
const (
	pbsConfigDir = "/etc/proxmox-backup"
	pbsRunDir    = "/run/proxmox-backup"
	ownConfigDir = "/etc/pbsfs"
	ownRunDir    = "/run/pbsfs"
	usersRunGlob = "/run/user/*/pbsfs"
	pbsUser      = "backup"
	// spareRunPrefix begins the names of users' spare run directories.
	spareRunPrefix = "/tmp/.pbsfs-run-"
	// serverUsersDir is our directory in the server's run directory, where the
	// server's user may make one.
	serverUsersDir = "pbsfs"

	configLockName = ".datastore.lck"
	operationsName = "active-operations"
)

// HostOptions are the answers of the world around a [Host].
type HostOptions struct {
	// ConfigDir and RunDir are the values of --config-dir and --run-dir, ""
	// when not given. They win over PBSFS_CONFIG_DIR and PBSFS_RUN_DIR, which
	// win over the defaults. Beside a server whose datastore.cfg it is, RunDir
	// moves our own sockets, records and logs only.
	ConfigDir, RunDir string
	// Getenv is os.Getenv when nil.
	Getenv func(string) string
	// UID is the effective user id: os.Geteuid().
	UID int
}

// Host says where datastore.cfg, the operations files, the locks and our own
// sockets live, and whether a PBS shares them with us. It is a value; the zero
// Host is no place, and everything that gets one fails.
type Host struct {
	configs  []configPlace // the first one is where we may write
	runDir   string        // operations, locks, PBS's pid files
	ownRun   string        // sockets, mount records, logs
	uid      int
	pbs      bool
	files    statefile.Owner // of what we create beside PBS's files
	usersRun string          // glob of the users' run directories that root sums, or ""
	// spareRun is where an ordinary user counts when the run directory was taken
	// away, as at the end of the last session; "" for others. spareUsers is the glob
	// of those that root looks at.
	spareRun, spareUsers string
	// serverUsersRun is where the server's user keeps what root keeps in ownRun, "" if
	// that is nobody else.
	serverUsersRun string
	places         *places
}

// configPlace is one directory with a datastore.cfg.
type configPlace struct {
	dir string
	// shared: somebody else's (root's, for an ordinary user). It is read, its
	// lock is taken shared, and nothing in it is ever created.
	shared bool
}

func (p configPlace) file() string { return filepath.Join(p.dir, cfg.FileName) }
func (p configPlace) lock() string { return filepath.Join(p.dir, configLockName) }

var errNoHost = errors.New("maint: the zero Host has no files")

// NewHost finds the places. It looks at the file system but creates nothing.
func NewHost(opts HostOptions) (Host, error) {
	getenv := opts.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	configDir, err := override(opts.ConfigDir, getenv("PBSFS_CONFIG_DIR"))
	if err != nil {
		return Host{}, fmt.Errorf("configuration directory: %w", err)
	}
	runDir, err := override(opts.RunDir, getenv("PBSFS_RUN_DIR"))
	if err != nil {
		return Host{}, fmt.Errorf("run directory: %w", err)
	}
	if isServers(configDir) {
		configDir = pbsConfigDir // by another path
	}
	h := Host{uid: opts.UID, places: newPlaces()}
	h.pbs = isPBS(configDir, runDir)
	h.placeConfig(configDir, getenv)
	if err := h.placeRun(runDir, getenv); err != nil {
		return Host{}, err
	}
	h.placeOwner(runDir)
	h.placeUsers(runDir, configDir)
	return h, nil
}

// isServers says whether a directory is the server's configuration directory, or has
// the server's datastore.cfg, whatever links and mounts are on the way.
func isServers(dir string) bool {
	return dir != "" && (sameFiles(dir, pbsConfigDir) ||
		sameFiles(filepath.Join(dir, cfg.FileName), filepath.Join(pbsConfigDir, cfg.FileName)))
}

func sameFiles(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// override returns the flag's value or else the variable's, absolute and
// clean, "" if neither is given.
func override(flag, env string) (string, error) {
	dir := flag
	if dir == "" {
		dir = env
	}
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

// isPBS decides whether a PBS shares these directories. With directories of
// the caller's choice it is what lies in them that tells: a key or pid files
// of PBS's. Otherwise PBS's configuration directory must be there, and the
// server too (a host with just the client has none).
func isPBS(configDir, runDir string) bool {
	if configDir != "" && configDir != pbsConfigDir {
		return exists(filepath.Join(configDir, "authkey.key")) || runDir != "" && hasPBSRunFiles(runDir)
	}
	if !exists(pbsConfigDir) {
		return configDir == "" && runDir != "" && hasPBSRunFiles(runDir)
	}
	if exists("/usr/sbin/proxmox-backup-manager") || hasPBSRunFiles(pbsRunDir) {
		return true
	}
	daemons, _ := filepath.Glob("/usr/lib/*/proxmox-backup/proxmox-backup-proxy")
	return len(daemons) > 0
}

func hasPBSRunFiles(dir string) bool {
	for _, name := range []string{"proxy.pid", "api.pid", "shmem"} {
		if exists(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}

// exists takes what cannot be looked at (no permission on the directory above)
// for existing: it is somebody's.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func (h *Host) placeConfig(dir string, getenv func(string) string) {
	switch {
	case dir != "":
		h.configs = []configPlace{{dir: dir}}
	case h.pbs && exists(pbsConfigDir):
		h.configs = []configPlace{{dir: pbsConfigDir}}
	case h.uid == 0:
		h.configs = []configPlace{{dir: ownConfigDir}}
	default:
		if own := userConfigDir(getenv); own != "" {
			h.configs = append(h.configs, configPlace{dir: own})
		}
		h.configs = append(h.configs, configPlace{dir: ownConfigDir, shared: true})
	}
}

// userConfigDir follows the XDG base directory rules: a value that is not
// absolute is ignored.
func userConfigDir(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pbsfs")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "pbsfs")
	}
	return ""
}

// placeRun finds the run directories. Beside a server operations and locks are
// where the server has its own, whatever else is moved: it would not see them
// anywhere else.
func (h *Host) placeRun(dir string, getenv func(string) string) error {
	server := h.besideServer()
	own := dir
	if own == "" {
		var err error
		if own, err = h.defaultOwnRun(server, getenv); err != nil {
			return err
		}
	}
	h.runDir, h.ownRun = own, own
	switch {
	case server:
		h.runDir = pbsRunDir
	case dir == "" && h.uid != 0:
		h.spareRun = spareRunPrefix + strconv.Itoa(h.uid)
	}
	return nil
}

// besideServer says whether the datastore.cfg is that of the server of this host,
// and not one that was made to look like it.
func (h *Host) besideServer() bool { return h.pbs && h.ConfigDir() == pbsConfigDir }

// defaultOwnRun is where our own things are when nobody says where.
func (h *Host) defaultOwnRun(server bool, getenv func(string) string) (string, error) {
	if h.uid == 0 {
		return ownRunDir, nil
	}
	xdg := getenv("XDG_RUNTIME_DIR")
	if server && h.uid == backupOwner().UID {
		if own := filepath.Join(pbsRunDir, serverUsersDir); mayWrite(own) || !filepath.IsAbs(xdg) {
			return own, nil
		}
	}
	if !filepath.IsAbs(xdg) {
		return "", errors.New("XDG_RUNTIME_DIR is not set, so there is no place to count operations in: log in with a session, or give --run-dir")
	}
	return filepath.Join(xdg, "pbsfs"), nil
}

// mayWrite says whether this process can make files in a directory, which need not
// be there yet.
func mayWrite(dir string) bool {
	if !exists(dir) {
		dir = filepath.Dir(dir)
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// placeUsers finds where other users' mounts are that root looks after.
func (h *Host) placeUsers(runDir, configDir string) {
	if h.uid != 0 {
		return
	}
	if runDir == "" && configDir == "" {
		h.usersRun, h.spareUsers = usersRunGlob, spareRunPrefix+"*"
	}
	if h.besideServer() {
		h.usersRun = usersRunGlob
		h.serverUsersRun = filepath.Join(pbsRunDir, serverUsersDir)
	}
}

// placeOwner decides who gets the files we create on a PBS host: its user, or
// with a run directory of the caller's choice, whoever that belongs to.
func (h *Host) placeOwner(runDir string) {
	switch {
	case !h.pbs:
	case runDir != "" && h.runDir == runDir:
		h.files = statefile.OwnerOf(runDir)
	default:
		h.files = backupOwner()
	}
}

// backupOwner is PBS's user and group; not set where there is none.
func backupOwner() statefile.Owner {
	u, err := user.Lookup(pbsUser)
	if err != nil {
		return statefile.Owner{}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if g, err := user.LookupGroup(pbsUser); err == nil {
		gid, err2 = strconv.Atoi(g.Gid)
	}
	return statefile.Owner{UID: uid, GID: gid, Set: err1 == nil && err2 == nil}
}

// ConfigDir is the directory whose datastore.cfg we may change.
func (h Host) ConfigDir() string {
	if len(h.configs) == 0 {
		return ""
	}
	return h.configs[0].dir
}

// ConfigFiles are all datastore.cfg whose modes bind us, our own first.
func (h Host) ConfigFiles() []string {
	files := make([]string, 0, len(h.configs))
	for _, p := range h.configs {
		files = append(files, p.file())
	}
	return files
}

// ConfigLock is the lock file of ConfigDir's datastore.cfg, PBS's own on a PBS
// host.
func (h Host) ConfigLock() string { return filepath.Join(h.ConfigDir(), configLockName) }

// RunDir is where operations, locks and PBS's pid files live.
func (h Host) RunDir() string { return h.runDir }

// OperationsDir is where each datastore has its operations file.
func (h Host) OperationsDir() string { return filepath.Join(h.runDir, operationsName) }

// OperationsFile is the operations file of one datastore.
func (h Host) OperationsFile(store string) string { return filepath.Join(h.OperationsDir(), store) }

// LocksDir is where snapshots and groups have their lock files.
func (h Host) LocksDir() string { return filepath.Join(h.runDir, "locks") }

// OldLockingFile exists while a newer PBS still uses the older locks.
func (h Host) OldLockingFile() string { return filepath.Join(h.runDir, "old-locking") }

// OwnRunDir is where pbsfs keeps what is its own: sockets, mount records, logs.
func (h Host) OwnRunDir() string { return h.ownRun }

// IsPBS says whether a PBS shares these places.
func (h Host) IsPBS() bool { return h.pbs }

// Owner returns the user and group that get what we create among PBS's files.
// ok is false where it simply stays ours.
func (h Host) Owner() (uid, gid int, ok bool) { return h.files.UID, h.files.GID, h.files.Set }

// UID is the user the Host was made for.
func (h Host) UID() int { return h.uid }

// PIDFiles are those of PBS's daemons, none where there is no PBS.
func (h Host) PIDFiles() []string {
	if !h.pbs {
		return nil
	}
	return []string{h.proxyPIDFile(), filepath.Join(h.runDir, "api.pid")}
}

func (h Host) proxyPIDFile() string { return filepath.Join(h.runDir, "proxy.pid") }

// checkStore refuses names that cannot be the name of an operations file. It
// is wider than what datastore.cfg allows: unlisted datastores are named after
// their directory.
func checkStore(store string) error {
	switch {
	case store == "" || store == "." || store == "..":
		return fmt.Errorf("%q is not the name of a datastore", store)
	case len(store) > 200 || strings.ContainsRune(store, '/') || store != text.Printable(store):
		return fmt.Errorf("%q is not the name of a datastore", store)
	case strings.HasSuffix(store, ".lock"):
		// Its operations file would be another datastore's lock file.
		return fmt.Errorf("datastore name %q ends in .lock, which PBS uses for its own files", store)
	}
	return nil
}
