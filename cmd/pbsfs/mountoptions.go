package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/fs"
)

// mountFlags are the options of a mount that are given by -o.
type mountFlags struct {
	allowOther bool
	nonempty   bool
	nofail     bool
	uid        int64
	gid        int64
	umask      int64
	noexec     bool
}

// accepted are options that mount(8), fstab and other FUSE programs know. They hold
// here anyway, or do not concern pbsfs.
var accepted = map[string]bool{
	"ro": true, "nosuid": true, "nodev": true, "defaults": true, "auto": true, "noauto": true,
	"user": true, "nouser": true, "users": true, "owner": true, "group": true, "_netdev": true,
	"noatime": true, "relatime": true, "nodiratime": true, "norelatime": true, "strictatime": true,
	"async": true, "sync": true, "dirsync": true, "exec": true, "default_permissions": true,
	"nousers": true, "noowner": true, "nogroup": true, "silent": true, "loud": true, "lazytime": true, "nolazytime": true,
	"kernel_cache": true, "auto_cache": true, "large_read": true, "hard_remove": true, "use_ino": true,
}

// refused are options that a tree of pbsfs cannot fulfil.
var refused = map[string]string{
	"rw":            "the tree is read-only",
	"suid":          "set-user-id files of a backup are not to be trusted",
	"dev":           "device files of a backup are not to be trusted",
	"allow_root":    "use allow_other",
	"foreground":    "give it to 'pbsfs mount', as --foreground",
	"auto_unmount":  "pbsfs unmounts when it ends; 'pbsfs unmount' cleans up after a crash",
	"remount":       "'mount -o remount' says what can be changed; for anything else unmount, and mount again",
	"writeback":     "the tree is read-only",
	"big_writes":    "the tree is read-only",
	"direct_io":     "files that can change are read directly, the others are cached",
	"entry_timeout": "time-outs follow from what can change",
	"attr_timeout":  "time-outs follow from what can change",
}

// isAccepted reports whether an option holds anyway, or is meant for others.
func isAccepted(opt string) bool {
	return opt == "" || accepted[opt] || slices.ContainsFunc(forOthers, func(prefix string) bool { return strings.HasPrefix(opt, prefix) })
}

// forOthers is what options begin with that mount(8), systemd and desktops read.
var forOthers = []string{"x-", "X-", "comment=", "user=", "helper=", "uhelper="}

// parse reads the arguments of -o. Each is a list with commas. A word that is no option
// of a mount is a flag of the command.
func (m *mountFlags) parse(lists []string, flags *pflag.FlagSet) error {
	m.uid, m.gid, m.umask = fs.NoReplacement, fs.NoReplacement, fs.NoReplacement
	for _, list := range lists {
		for _, opt := range splitOptions(list) {
			if err := m.set(opt, flags); err != nil {
				return usage.New(err)
			}
		}
	}
	return nil
}

func (m *mountFlags) set(opt string, flags *pflag.FlagSet) (err error) {
	key, value, hasValue := strings.Cut(opt, "=")
	switch {
	case isAccepted(opt):
	case refused[key] != "":
		return fmt.Errorf("mount option %s is not possible: %s", opt, refused[key])
	case opt == "allow_other":
		m.allowOther = true
	case opt == "nonempty":
		m.nonempty = true
	case opt == "nofail":
		m.nofail = true
	case opt == "noexec":
		m.noexec = true
	case hasValue && key == "uid":
		m.uid, err = number(opt, value, 10, 32)
	case hasValue && key == "gid":
		m.gid, err = number(opt, value, 10, 32)
	case hasValue && key == "umask":
		m.umask, err = number(opt, value, 8, 9)
	default:
		return setFlag(flags, opt)
	}
	return err
}

// number reads the value of an option, an unsigned number of at most that many bits.
func number(opt, value string, base, bits int) (int64, error) {
	n, err := strconv.ParseUint(value, base, bits)
	if err != nil {
		var why *strconv.NumError
		if errors.As(err, &why) {
			err = why.Err
		}
		return 0, fmt.Errorf("mount option %s: %w", opt, err)
	}
	if bits == 32 && n == math.MaxUint32 {
		return 0, fmt.Errorf("mount option %s: nobody has that id", opt)
	}
	return int64(n), nil
}
