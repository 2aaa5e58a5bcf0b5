package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pbsfs/pbsfs/"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// ours returns the packages of the module, by path below it.
func ours(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := make(map[string]listed)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
}

// arrows says which packages of the module a package may import. What is not
// named is a room that nobody has thought about. A name with "/..." means all below it, too.
var arrows = map[string][]string{
	"cmd/pbsfs/internal/confine": {},
	"cmd/pbsfs/internal/usher": {
		"cmd/pbsfs/internal/locate", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/served", "fs", "maint/hosts", "maint/modes", "maint/mounts", "maint/procfs",
	},
	"cmd/pbsfs/internal/fault":  {},
	"cmd/pbsfs/internal/manual": {},
	"cmd/pbsfs/internal/page":   {},
	"cmd/pbsfs/internal/token":  {"maint/statefile"},
	"cmd/pbsfs/internal/usage":  {},
	"cmd/pbsfs/internal/unlock": {"cmd/pbsfs/internal/usage", "maint/reach", "store", "store/keys", "store/name"},
	"cmd/pbsfs":                 {"cmd/pbsfs/internal/...", "fs", "store", "store/...", "maint", "maint/..."},
	"maint":                     {"maint/cfg", "maint/hosts", "maint/identity", "maint/modes", "maint/mounts", "maint/opsfile", "maint/pbs", "maint/places", "maint/procfs", "maint/reach", "maint/statefile"},
	"maint/hosts":               {"maint/cfg", "maint/places", "maint/statefile", "maint/text"},
	"maint/modes":               {"maint/cfg", "maint/hosts", "maint/identity", "maint/mounts", "maint/places", "maint/reach", "maint/statefile"},
	"maint/opsfile":             {"maint/cfg", "maint/procfs", "maint/statefile"},
	"maint/pbs":                 {"maint/hosts", "maint/opsfile", "maint/procfs", "maint/statefile", "maint/text"},
	"maint/places":              {"maint/cfg", "maint/device", "maint/identity", "maint/mounts", "maint/reach"},
	"maint/cfg":                 {"maint/text"},
	"maint/device":              {"maint/device/superblock", "maint/mounts", "maint/text"},
	"maint/device/superblock":   {},
	"maint/mounts":              {"maint/procfs", "maint/text"},
	"maint/procfs":              {"maint/text"},
	"maint/statefile":           {"maint/procfs"},
	"integration/bench":         {"store", "store/...", "maint", "maint/hosts"},
	"fs":                        {"store", "store/name", "store/tree", "maint", "maint/cfg", "maint/mounts", "maint/procfs"},
	"store/tree":                {"store", "store/...", "maint", "maint/cfg"},
	"store":                     {"store/...", "maint", "maint/cfg", "maint/device", "maint/hosts", "maint/identity", "maint/mounts", "maint/opsfile", "maint/statefile"},
	"store/internal/chunk":      {"store/internal/disk", "store/blob", "store/corrupt", "store/keys", "store/name"},
	"store/internal/metadata":   {"store/internal/lru", "store/corrupt"},
	"store/internal/disk":       {"store/blob", "store/corrupt", "store/internal/backend", "store/internal/lease", "store/name"},
	"store/internal/backend":    {"store/name"},
	"store/internal/s3":         {"store/blob", "store/bucket", "store/corrupt", "store/internal/backend", "store/internal/chunkfiles", "store/internal/disk", "store/internal/lru", "store/name"},
	"store/internal/chunkfiles": {"store/blob", "store/name"},
	"store/bucket":              {},
	"store/blob":                {"store/corrupt", "store/keys", "store/name"},
	"store/manifest":            {"store/blob", "store/corrupt", "store/keys", "store/name"},
	"store/keys":                {"store/corrupt", "store/name"},
	"store/index":               {"store/corrupt", "store/name"},
	"store/catalog":             {"store/corrupt", "store/name"},
	"store/pxar":                {"store/corrupt", "store/name"},
	"store/image":               {"store/corrupt", "store/internal/lru"},
	"store/image/btrfs":         {"store/image", "store/corrupt", "store/internal/lru"},
	"store/image/xfs":           {"store/image", "store/corrupt", "store/internal/lru"},
	"store/image/ext":           {"store/image", "store/corrupt", "store/internal/lru"},
	"store/image/imagetest":     {"store/image", "store/corrupt"},
	"store/image/partition":     {},
	"store/image/lvm":           {"store/corrupt"},
	"store/image/probe":         {},
	"store/image/volumes":       {"store/image", "store/image/...", "store/corrupt"},
	"store/image/clusters":      {"store/image", "store/corrupt", "store/internal/lru"},
	"store/image/fat":           {"store/image", "store/image/clusters", "store/corrupt"},
	"store/image/exfat":         {"store/image", "store/image/clusters", "store/corrupt"},
	"store/image/ntfs":          {"store/image", "store/corrupt", "store/internal/lru"},
	"store/source":              {"store/catalog", "store/internal/lease", "store/pxar"},
	"store/storetest":           {"store/blob", "store/catalog", "store/keys", "store/name", "store/pxar", "maint/hosts"},
	"integration":               {},
	"packaging":                 {},
	"maint/identity":            {},
	"maint/reach":               {},
	"maint/text":                {},
	"store/corrupt":             {},
	"store/internal/cdc":        {},
	"store/internal/lease":      {},
	"store/internal/lru":        {},
	"store/name":                {},

	"cmd/pbsfs/internal/certificate": {"maint/statefile"},
	"cmd/pbsfs/internal/mountlist":   {},
	"cmd/pbsfs/internal/export":      {"store", "store/pxar", "store/tree"},
	"cmd/pbsfs/internal/pattern":     {},
	"cmd/pbsfs/internal/restore": {
		"cmd/pbsfs/internal/pattern", "store", "store/name", "store/pxar", "store/tree", "maint/mounts", "maint/reach",
	},
	"cmd/pbsfs/internal/compare": {"store", "store/name", "store/tree"},
	"cmd/pbsfs/internal/find":    {"store", "store/manifest", "store/name", "store/tree"},
	"cmd/pbsfs/internal/digests": {"store/name"},
	"cmd/pbsfs/internal/space":   {"cmd/pbsfs/internal/digests", "store", "store/index", "store/name", "store/tree"},
	"cmd/pbsfs/internal/verify":  {"cmd/pbsfs/internal/digests", "store", "store/blob", "store/index", "store/keys", "store/manifest", "store/name", "store/tree"},

	"cmd/pbsfs/internal/mountpoint": {"fs", "maint/mounts", "maint/reach", "maint/text"},
	"cmd/pbsfs/internal/locate": {
		"cmd/pbsfs/internal/fault", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/usage", "store", "store/bucket",
		"maint", "maint/cfg", "maint/device", "maint/hosts", "maint/identity", "maint/modes", "maint/mounts", "maint/places", "maint/procfs", "maint/reach",
	},
	"cmd/pbsfs/internal/served": {
		"cmd/pbsfs/internal/locate", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/unlock", "fs", "store",
		"maint", "maint/cfg", "maint/hosts", "maint/identity", "maint/modes", "maint/mounts", "maint/procfs", "maint/text",
	},
	"cmd/pbsfs/internal/status": {
		"cmd/pbsfs/internal/locate", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/served",
		"maint", "maint/cfg", "maint/device", "maint/hosts", "maint/modes", "maint/mounts", "maint/procfs", "maint/text",
	},
	"cmd/pbsfs/internal/access": {"cmd/pbsfs/internal/token"},
	"cmd/pbsfs/internal/watch":  {"cmd/pbsfs/internal/status"},
	"cmd/pbsfs/internal/web":    {},
	"cmd/pbsfs/internal/metrics": {
		"cmd/pbsfs/internal/usage", "cmd/pbsfs/internal/web", "store", "store/tree", "maint", "maint/cfg", "maint/opsfile",
	},
	"cmd/pbsfs/internal/api": {
		"cmd/pbsfs/internal/access", "cmd/pbsfs/internal/export", "cmd/pbsfs/internal/locate", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/served",
		"cmd/pbsfs/internal/status", "cmd/pbsfs/internal/token", "cmd/pbsfs/internal/unmount", "cmd/pbsfs/internal/watch",
		"store", "store/manifest", "store/name", "store/tree", "maint", "maint/cfg", "maint/device", "maint/hosts", "maint/mounts", "maint/text",
	},
	"cmd/pbsfs/internal/unmount": {
		"cmd/pbsfs/internal/fault", "cmd/pbsfs/internal/locate", "cmd/pbsfs/internal/mountpoint", "cmd/pbsfs/internal/served", "cmd/pbsfs/internal/status",
		"fs", "maint", "maint/cfg", "maint/device", "maint/hosts", "maint/mounts", "maint/text",
	},
}

// decoders open nothing: they are given bytes.
var decoders = []string{
	"store/name", "store/corrupt", "store/blob", "store/index", "store/manifest", "store/catalog", "store/pxar", "store/keys", "store/image", "store/image/ext", "store/image/xfs", "store/image/btrfs", "store/image/partition", "store/image/lvm", "store/image/probe",
	"store/image/clusters", "store/image/fat", "store/image/exfat", "store/image/ntfs",
	"maint/cfg", "maint/device/superblock", "maint/text",
}

func TestArrowsPointDown(t *testing.T) {
	packages := ours(t)
	for name, p := range packages {
		if _, ok := arrows[name]; !ok {
			t.Errorf("package %s is not in the table: say what it may import", name)
		}
		for _, path := range p.Imports {
			to, own := strings.CutPrefix(path, module)
			if !own || slices.ContainsFunc(arrows[name], func(rule string) bool { return matches(rule, to) }) {
				continue
			}
			t.Errorf("%s imports %s", name, to)
		}
		for _, path := range p.Imports {
			// The benchmark has a server of its own beside it, to be compared with.
			if strings.HasPrefix(path, "github.com/hanwen/go-fuse/") && name != "fs" && name != "integration/bench" {
				t.Errorf("%s imports %s: only fs knows FUSE", name, path)
			}
			if strings.HasPrefix(path, "github.com/prometheus/") && name != "cmd/pbsfs/internal/metrics" {
				t.Errorf("%s imports %s: only metrics knows Prometheus", name, path)
			}
			if slices.Contains(decoders, name) && (path == "os" || path == "syscall" || path == "golang.org/x/sys/unix" || path == "net") {
				t.Errorf("decoder %s imports %s", name, path)
			}
		}
	}
	for _, name := range append([]string{"fs", "maint", "cmd/pbsfs", "store/tree"}, decoders...) {
		if _, ok := packages[name]; !ok {
			t.Errorf("there is no package %s: the rules are about nothing", name)
		}
	}
}

func matches(rule, path string) bool {
	if below, ok := strings.CutSuffix(rule, "..."); ok {
		return strings.HasPrefix(path, below)
	}
	return rule == path
}

// openers are calls that open, read or list files by name.
var openers = map[string][]string{
	"os": {
		"Open", "OpenFile", "OpenInRoot", "OpenRoot", "ReadFile", "ReadDir", "Create", "WriteFile", "DirFS", "Stat", "Lstat", "Readlink",
		"Mkdir", "MkdirAll", "Remove", "RemoveAll", "Rename", "Symlink", "Link", "Truncate", "Chmod", "Chown",
	},
	"golang.org/x/sys/unix": {"Open", "Openat", "Openat2", "Creat", "Stat", "Lstat", "Fstatat", "Statx", "Unlink", "Unlinkat", "Renameat2", "Mkdirat"},
	"syscall":               {"Open", "Openat", "Creat", "Stat", "Lstat", "Unlink"},
	"path/filepath":         {"Walk", "WalkDir", "Glob", "EvalSymlinks"},
}

// Only store/internal/disk opens files of a datastore. What store/source opens is
// to be stored in one.
func TestOnlyDiskOpensFiles(t *testing.T) {
	found := false
	for name, p := range ours(t) {
		if name != "fs" && name != "store" && !strings.HasPrefix(name, "store/") || name == "store/storetest" || name == "store/source" || name == "store/image/imagetest" {
			continue
		}
		uses(t, p, func(path, what, at string) {
			if !slices.Contains(openers[path], what) {
				return
			}
			if name == "store/internal/disk" {
				found = true
				return
			}
			if name == "store/internal/metadata" || name == "store/internal/chunkfiles" { // files of a directory of its own
				return
			}
			t.Errorf("%s: %s uses %s.%s", at, name, path, what)
		})
	}
	if !found {
		t.Error("store/internal/disk opens nothing: the rule is about nothing")
	}
}

// An errno is an answer to the kernel, and only fs gives those.
func TestOnlyFSKnowsErrno(t *testing.T) {
	found := false
	for name, p := range ours(t) {
		uses(t, p, func(path, what, at string) {
			if what != "Errno" || path != "syscall" && path != "golang.org/x/sys/unix" {
				return
			}
			if name == "fs" {
				found = true
				return
			}
			if strings.HasPrefix(name, "cmd/pbsfs") || strings.HasPrefix(name, "store") {
				t.Errorf("%s: %s has the type %s.%s", at, name, path, what)
			}
		})
	}
	if !found {
		t.Error("fs has no errno: the rule is about nothing")
	}
}

// uses calls fn for each name that a package takes from another one.
func uses(t *testing.T, p listed, fn func(path, what, at string)) {
	t.Helper()
	fset := token.NewFileSet()
	for _, file := range p.GoFiles {
		tree, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[string]string)
		for _, i := range tree.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			local := path[strings.LastIndexByte(path, '/')+1:]
			if i.Name != nil {
				local = i.Name.Name
			}
			names[local] = path
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != "" {
					fn(names[x.Name], s.Sel.Name, fset.Position(s.Pos()).String())
				}
			}
			return true
		})
	}
}
