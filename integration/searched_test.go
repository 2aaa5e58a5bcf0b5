package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/source"
)

// generations is how many snapshots a generated group has.
const generations = 30

// generated makes a datastore with two groups, one for each format, of snapshots of one
// tree that changes from one to the next.
func generated(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	tree, into := subdir(t, dir, "tree"), filepath.Join(dir, "store")
	w := generatedWriter(t, into)
	g := &generator{t: t, root: tree, random: rand.New(rand.NewPCG(7, 11))}
	g.begin()
	for i := range generations {
		at := time.Unix(1_700_000_000+int64(i)*86_400, 0)
		g.store(w, "unified", at, false)
		g.store(w, "split", at, true)
		for range 6 {
			g.change()
		}
	}
	return into
}

func generatedWriter(t *testing.T, into string) *store.Writer {
	t.Helper()
	host, err := hosts.NewHost(hosts.HostOptions{ConfigDir: t.TempDir(), RunDir: t.TempDir(), UID: os.Geteuid(), Getenv: func(string) string { return "" }})
	must(t, err)
	must(t, store.Create(t.Context(), into))
	ref, err := store.Open(t.Context(), store.Options{Name: "generated", Path: into, Host: host})
	must(t, err)
	w, err := ref.AcquireWriter(t.Context())
	must(t, err)
	t.Cleanup(func() {
		w.Release()
		must(t, ref.Close())
	})
	return w
}

// generator is a tree that changes.
type generator struct {
	t      *testing.T
	root   string
	random *rand.Rand
	serial int
}

// store writes a snapshot of the tree, of an image, and of a file.
func (g *generator) store(w *store.Writer, id string, at time.Time, split bool) {
	g.t.Helper()
	group, err := name.NewGroup(name.Namespace{}, name.Host, id)
	must(g.t, err)
	ctx := g.t.Context()
	s, err := store.BeginSnapshot(ctx, w, group, store.SnapshotOptions{Time: at})
	must(g.t, err)
	tree, err := source.Open(g.root)
	must(g.t, err)
	defer tree.Close()
	options := source.Options{Warn: func(path string, err error) { g.t.Errorf("%s: %v", path, err) }}
	if split {
		must(g.t, writeSplitTree(ctx, s, tree, options))
	} else {
		must(g.t, writeUnifiedTree(ctx, s, tree, options))
	}
	must(g.t, s.Finish(ctx))
}

func writeSplitTree(ctx context.Context, s *store.SnapshotWriter, tree *source.Tree, o source.Options) error {
	meta, err := streamOf(ctx, s, "root.mpxar.didx")
	if err != nil {
		return err
	}
	payload, err := streamOf(ctx, s, "root.ppxar.didx")
	if err != nil {
		return err
	}
	return errors.Join(tree.Split(ctx, meta, payload, o), meta.Close(), payload.Close())
}

func writeUnifiedTree(ctx context.Context, s *store.SnapshotWriter, tree *source.Tree, o source.Options) error {
	listed, err := streamOf(ctx, s, name.Catalog.String())
	if err != nil {
		return err
	}
	w, err := streamOf(ctx, s, "root.pxar.didx")
	if err != nil {
		return err
	}
	list := catalog.NewEncoder(listed)
	return errors.Join(tree.Unified(ctx, w, list, "root.pxar.didx", o), list.Close(), w.Close(), listed.Close())
}

// begin makes the tree: some 150 entries of all kinds.
func (g *generator) begin() {
	for d := range 12 {
		dir := filepath.Join(g.root, fmt.Sprintf("dir-%02d", d%4), fmt.Sprintf("sub-%02d", d))
		must(g.t, os.MkdirAll(dir, 0o755))
		for f := range 9 {
			g.write(filepath.Join(dir, fmt.Sprintf("file-%d.txt", f)))
		}
		must(g.t, os.Symlink(fmt.Sprintf("file-%d.txt", d%9), filepath.Join(dir, "link")))
	}
	must(g.t, unix.Mkfifo(filepath.Join(g.root, "fifo"), 0o600))
	must(g.t, os.Link(g.any(isRegular), filepath.Join(g.root, "dir-00", "hard")))
	must(g.t, os.Link(g.any(isRegular), filepath.Join(g.root, "zz-hard")))
	must(g.t, os.WriteFile(filepath.Join(g.root, "big"), noise(1, 3<<20), 0o644))
}

func isRegular(m fs.FileMode) bool { return m.IsRegular() }

// any returns a path in the tree whose type is wanted.
func (g *generator) any(wanted func(fs.FileMode) bool) string {
	var all []string
	must(g.t, filepath.WalkDir(g.root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && path != g.root && wanted(e.Type()) {
			all = append(all, path)
		}
		return err
	}))
	return all[g.random.IntN(len(all))]
}

// write writes new content into a file.
func (g *generator) write(path string) {
	g.serial++
	g.content(path, 1+g.random.IntN(4000))
}

func (g *generator) content(path string, n int) {
	g.serial++
	must(g.t, os.WriteFile(path, noise(uint64(g.serial), n), 0o644))
	must(g.t, os.Chtimes(path, time.Time{}, time.Unix(1_600_000_000+int64(g.serial)*1000, int64(g.random.IntN(1e9)))))
}

// change changes one thing.
func (g *generator) change() {
	file := g.any(isRegular)
	switch g.random.IntN(9) {
	case 0:
		g.write(filepath.Join(filepath.Dir(file), fmt.Sprintf("new-%d.txt", g.serial)))
	case 1:
		must(g.t, os.Remove(file))
	case 2:
		must(g.t, os.Rename(file, filepath.Join(filepath.Dir(g.any(isRegular)), filepath.Base(file))))
	case 3:
		must(g.t, os.Chmod(file, fs.FileMode(0o600+g.random.IntN(0o177))))
	case 4: // other content, of the same size and time
		info, err := os.Lstat(file)
		must(g.t, err)
		g.content(file, int(info.Size()))
		must(g.t, os.Chtimes(file, time.Time{}, info.ModTime()))
	case 5:
		link := g.any(func(m fs.FileMode) bool { return m&fs.ModeSymlink != 0 })
		must(g.t, os.Remove(link))
		must(g.t, os.Symlink(fmt.Sprintf("other-%d", g.serial), link))
	case 6:
		must(g.t, unix.Setxattr(file, "user.generated", []byte(fmt.Sprint(g.serial)), 0))
	case 7:
		must(g.t, os.RemoveAll(file))
		must(g.t, os.Mkdir(file, 0o700))
		g.write(filepath.Join(file, "inside"))
	default:
		g.write(file)
	}
}

// sight is what a walk through a mount has seen of a file.
type sight struct {
	mode, uid, gid uint32
	mtime          unix.Timespec
	size           int64
	rdev           uint64
	target, xattrs string
	sum            string
	item           bool // it lies beside the archives
}

func (s *sight) typ() uint32 { return s.mode & unix.S_IFMT }

// snapshotSeen is a snapshot as a slow and simple walk sees it: by path below it.
type snapshotSeen map[string]*sight

// groupSeen are the snapshots of a group, by time.
type groupSeen map[string]snapshotSeen

// times returns the times of the snapshots, the oldest first.
func (g groupSeen) times() []string { return slices.Sorted(maps.Keys(g)) }

// lookAt walks a group in a mount.
func lookAt(t *testing.T, group string) groupSeen {
	t.Helper()
	out := groupSeen{}
	entries, err := os.ReadDir(group)
	must(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		s := snapshotSeen{}
		root := filepath.Join(group, e.Name())
		must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err
			}
			if d.IsDir() && strings.HasSuffix(path, ".img.d") {
				return filepath.SkipDir
			}
			below := strings.TrimPrefix(path, root+"/")
			s[below] = lookAtFile(t, path)
			s[below].item = !strings.Contains(below, "/") && !d.IsDir()
			return nil
		}))
		out[e.Name()] = s
	}
	return out
}

func lookAtFile(t *testing.T, path string) *sight {
	t.Helper()
	var st unix.Stat_t
	must(t, lstat(path, &st))
	s := &sight{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim, size: st.Size, rdev: st.Rdev}
	switch s.typ() {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		must(t, err)
		sum := sha256.Sum256(data)
		s.sum = hex.EncodeToString(sum[:])
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		must(t, err)
		s.target = target
	case unix.S_IFDIR:
		s.size = 0
	}
	s.xattrs = allXattrs(t, path)
	return s
}

func allXattrs(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	var all []string
	for _, attr := range strings.Split(string(buf[:n]), "\x00") {
		if attr == "" {
			continue
		}
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(path, attr, value)
		must(t, err)
		all = append(all, attr+"="+string(value[:m]))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
