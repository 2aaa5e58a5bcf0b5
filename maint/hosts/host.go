package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/places"
	"github.com/pbsfs/pbsfs/maint/statefile"
	"github.com/pbsfs/pbsfs/maint/text"
)

// The default places of the files of PBS and pbsfs.
const (
	ServerConfigDir = "/etc/proxmox-backup"
	pbsRunDir       = "/run/proxmox-backup"
	ownConfigDir    = "/etc/pbsfs"
	ownRunDir       = "/run/pbsfs"
	usersRunGlob    = "/run/user/*/pbsfs"
	pbsUser         = "backup"
	// spareRunPrefix begins the names of users' spare run directories.
	spareRunPrefix = "/tmp/.pbsfs-run-"
	// serverUsersDir is our directory in the server's run directory, in which the
	// server's user may create directories.
	serverUsersDir = "pbsfs"

	configLockName = ".datastore.lck"
	OperationsName = "active-operations"
)

// HostOptions describe the environment of a [Host].
type HostOptions struct {
	// ConfigDir and RunDir are the values of --config-dir and --run-dir, "" if they are
	// not given. They win over PBSFS_CONFIG_DIR and PBSFS_RUN_DIR, which win over the
	// defaults. If the datastore.cfg is that of this host's server, RunDir moves only
	// our own sockets, records and logs.
	ConfigDir, RunDir string
	// Getenv is os.Getenv when nil.
	Getenv func(string) string
	// UID is the effective user id: os.Geteuid().
	UID int
}

// Host says where datastore.cfg, the operations files, the locks and our own sockets
// are, and whether a PBS shares them with us. It is a value. The zero Host has no
// places, and everything that gets one fails.
type Host struct {
	at     Layout
	places *places.Memory
	free   func(context.Context) error
}

// Layout is where everything of a host lies.
type Layout struct {
	Configs   []ConfigPlace // the first one is where we may write
	RunDir    string        // operations, locks, PBS's pid files
	OwnRunDir string        // sockets, mount records, logs
	UID       int
	PBS       bool            // a PBS shares these places
	Files     statefile.Owner // of what we create beside PBS's files
	UsersRun  string          // glob of the users' run directories that root sums, or ""
	// SpareRun is where an ordinary user counts if the run directory was removed, as
	// happens at the end of the last session; "" for other users. SpareUsers is the
	// glob of those directories that root looks at.
	SpareRun, SpareUsers string
	// ServerUsersRun is where the server's user keeps what root keeps in OwnRunDir, ""
	// if there is no such user.
	ServerUsersRun string
}

// Host makes a host of known places.
func (l Layout) Host() Host { return Host{at: l, places: places.NewMemory()} }

// Freed returns the host for a process of root that may not look into others: free has
// another process take our config lock from ordinary users who have it for long.
func (h Host) Freed(free func(context.Context) error) Host {
	h.free = free
	return h
}

// Layout returns where the files of the host lie.
func (h Host) Layout() Layout { return h.at }

// ConfigPlace is one directory with a datastore.cfg.
type ConfigPlace struct {
	Dir string
	// Shared says that the directory belongs to another user (for an ordinary user: to
	// root). It is read, its lock is taken shared, and nothing in it is ever created.
	Shared bool
}

// File returns the path of the datastore.cfg.
func (p ConfigPlace) File() string { return filepath.Join(p.Dir, cfg.FileName) }

// Lock returns the path of its lock file.
func (p ConfigPlace) Lock() string { return filepath.Join(p.Dir, configLockName) }

// ErrZero is the answer of the zero Host.
var ErrZero = errors.New("maint: the zero Host has no files")

// NewHost finds the places of the files. It looks at the file system but creates
// nothing.
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
		configDir = ServerConfigDir // by another path
	}
	h := Layout{UID: opts.UID}.Host()
	h.at.PBS = isPBS(configDir, runDir)
	h.placeConfig(configDir, getenv)
	if err := h.placeRun(runDir, getenv); err != nil {
		return Host{}, err
	}
	h.placeOwner(runDir)
	h.placeUsers(runDir, configDir)
	return h, nil
}

// isServers reports whether a directory is the server's configuration directory, or
// holds the server's datastore.cfg, even if links and mounts lead there.
func isServers(dir string) bool {
	return dir != "" && (sameFiles(dir, ServerConfigDir) ||
		sameFiles(filepath.Join(dir, cfg.FileName), filepath.Join(ServerConfigDir, cfg.FileName)))
}

func sameFiles(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// override returns the flag's value, or else the variable's, absolute and clean. It
// returns "" if neither is given.
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

// isPBS decides whether a PBS shares these directories. In directories that the caller
// chose, PBS's key or pid files tell. Otherwise PBS's configuration directory must
// exist, and the server must be installed too: a host with only the client has no
// server.
func isPBS(configDir, runDir string) bool {
	if configDir != "" && configDir != ServerConfigDir {
		return Exists(filepath.Join(configDir, "authkey.key")) || runDir != "" && hasPBSRunFiles(runDir)
	}
	if !Exists(ServerConfigDir) {
		return configDir == "" && runDir != "" && hasPBSRunFiles(runDir)
	}
	if Exists("/usr/sbin/proxmox-backup-manager") || hasPBSRunFiles(pbsRunDir) {
		return true
	}
	daemons, _ := filepath.Glob("/usr/lib/*/proxmox-backup/proxmox-backup-proxy")
	return len(daemons) > 0
}

func hasPBSRunFiles(dir string) bool {
	for _, name := range []string{"proxy.pid", "api.pid", "shmem"} {
		if Exists(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}

// Exists reports whether a path exists. A path that cannot be looked at (for lack of
// permission on the directory above) counts as existing: it belongs to another user.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func (h *Host) placeConfig(dir string, getenv func(string) string) {
	switch {
	case dir != "":
		h.at.Configs = []ConfigPlace{{Dir: dir}}
	case h.at.PBS && Exists(ServerConfigDir):
		h.at.Configs = []ConfigPlace{{Dir: ServerConfigDir}}
	case h.at.UID == 0:
		h.at.Configs = []ConfigPlace{{Dir: ownConfigDir}}
	default:
		if own := userConfigDir(getenv); own != "" {
			h.at.Configs = append(h.at.Configs, ConfigPlace{Dir: own})
		}
		h.at.Configs = append(h.at.Configs, ConfigPlace{Dir: ownConfigDir, Shared: true})
	}
}

// userConfigDir follows the XDG base directory rules: a relative value is ignored.
func userConfigDir(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pbsfs")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "pbsfs")
	}
	return ""
}

// placeRun finds the run directories. Beside a server, operations and locks stay where
// the server has its own, whatever else is moved: the server would not see them
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
	h.at.RunDir, h.at.OwnRunDir = own, own
	switch {
	case server:
		h.at.RunDir = pbsRunDir
	case dir == "" && h.at.UID != 0:
		h.at.SpareRun = spareRunPrefix + strconv.Itoa(h.at.UID)
	}
	return nil
}

// besideServer reports whether the datastore.cfg is that of this host's server, and not
// an imitation of it.
func (h *Host) besideServer() bool { return h.at.PBS && h.ConfigDir() == ServerConfigDir }

// defaultOwnRun returns where our own files are if no option says so.
func (h *Host) defaultOwnRun(server bool, getenv func(string) string) (string, error) {
	if h.at.UID == 0 {
		return ownRunDir, nil
	}
	xdg := getenv("XDG_RUNTIME_DIR")
	if server && h.at.UID == backupOwner().UID {
		if own := filepath.Join(pbsRunDir, serverUsersDir); mayWrite(own) || !filepath.IsAbs(xdg) {
			return own, nil
		}
	}
	if !filepath.IsAbs(xdg) {
		return "", errors.New("XDG_RUNTIME_DIR is not set, so there is no place to count operations in: log in with a session, or give --run-dir")
	}
	return filepath.Join(xdg, "pbsfs"), nil
}

// mayWrite reports whether this process can create files in a directory, which need not
// exist yet.
func mayWrite(dir string) bool {
	if !Exists(dir) {
		dir = filepath.Dir(dir)
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// placeUsers finds the directories of those users whose mounts root looks after.
func (h *Host) placeUsers(runDir, configDir string) {
	if h.at.UID != 0 {
		return
	}
	if runDir == "" && configDir == "" {
		h.at.UsersRun, h.at.SpareUsers = usersRunGlob, spareRunPrefix+"*"
	}
	if h.besideServer() {
		h.at.UsersRun = usersRunGlob
		h.at.ServerUsersRun = filepath.Join(pbsRunDir, serverUsersDir)
	}
}

// placeOwner decides who owns the files that we create on a PBS host: PBS's user, or,
// for a run directory that the caller chose, the owner of that directory.
func (h *Host) placeOwner(runDir string) {
	switch {
	case !h.at.PBS:
	case runDir != "" && h.at.RunDir == runDir:
		h.at.Files = statefile.OwnerOf(runDir)
	default:
		h.at.Files = backupOwner()
	}
}

// backupOwner returns PBS's user and group; it is not set on a host without them.
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

// ConfigDir returns the directory whose datastore.cfg we may change.
func (h Host) ConfigDir() string {
	if len(h.at.Configs) == 0 {
		return ""
	}
	return h.at.Configs[0].Dir
}

// OwnConfigDir returns the directory for what we alone configure. On a PBS host that is
// not ConfigDir, which is PBS's.
func (h Host) OwnConfigDir() string {
	if h.IsPBS() {
		return ownConfigDir
	}
	return h.ConfigDir()
}

// ConfigFiles returns every datastore.cfg whose modes bind us, our own first.
func (h Host) ConfigFiles() []string {
	files := make([]string, 0, len(h.at.Configs))
	for _, p := range h.at.Configs {
		files = append(files, p.File())
	}
	return files
}

// ConfigLock returns the lock file of ConfigDir's datastore.cfg. On a PBS host it is
// PBS's own.
func (h Host) ConfigLock() string { return filepath.Join(h.ConfigDir(), configLockName) }

// RunDir returns the directory of operations, locks and PBS's pid files.
func (h Host) RunDir() string { return h.at.RunDir }

// OperationsDir returns the directory in which each datastore has its operations file.
func (h Host) OperationsDir() string { return filepath.Join(h.at.RunDir, OperationsName) }

// OperationsFile returns the operations file of one datastore.
func (h Host) OperationsFile(store string) string { return filepath.Join(h.OperationsDir(), store) }

// LocksDir returns the directory in which snapshots and groups have their lock files.
func (h Host) LocksDir() string { return filepath.Join(h.at.RunDir, "locks") }

// OwnRunDir returns the directory of pbsfs's own files: sockets, mount records, logs.
func (h Host) OwnRunDir() string { return h.at.OwnRunDir }

// IsPBS reports whether a PBS shares these places.
func (h Host) IsPBS() bool { return h.at.PBS }

// Configs returns the directories of every datastore.cfg that binds us, our own first.
func (h Host) Configs() []ConfigPlace { return h.at.Configs }

// Files returns the owner of the files that we create among PBS's files.
func (h Host) Files() statefile.Owner { return h.at.Files }

// Places returns the memory of which datastores were found where; nil for the zero
// Host.
func (h Host) Places() *places.Memory { return h.places }

// UID returns the user that the Host was made for.
func (h Host) UID() int { return h.at.UID }

// PIDFiles returns the pid files of PBS's daemons, none on a host without PBS.
func (h Host) PIDFiles() []string {
	if !h.at.PBS {
		return nil
	}
	return []string{h.ProxyPIDFile(), filepath.Join(h.at.RunDir, "api.pid")}
}

// ProxyPIDFile returns the pid file of the server's proxy.
func (h Host) ProxyPIDFile() string { return filepath.Join(h.at.RunDir, "proxy.pid") }

// CheckStore refuses names that cannot be the name of an operations file. It allows
// more than datastore.cfg does, because unlisted datastores are named after their
// directory.
func CheckStore(store string) error {
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
