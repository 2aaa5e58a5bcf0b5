package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/pxar"
)

const (
	searchedEntries   = 75_000
	searchedSnapshots = 100
	// nearChanges and farChanges are how many files differ from one snapshot to the next.
	nearChanges, farChanges = 3, 10
)

// BenchmarkFind searches a group of 100 snapshots of 75,000 entries, of which a few
// change from one to the next, and one of these snapshots: what the group needs in
// proportion is the figure x-one-s. Each search is a new process; in "cold" nothing is in
// the kernel's caches. Sizes change, which moves all that comes behind in the streams:
// "same" is nothing, "near" are changes in one directory, "far" are changes anywhere. "all"
// prints everything instead of one file in a hundred. What has changed must
// be decoded, a chunk at a time: of a catalog that is half a MiB, of the metadata of a
// split archive 4 MiB.
func BenchmarkFind(b *testing.B) {
	for _, format := range []string{"pxar", "split"} {
		for _, change := range []string{"same", "near", "far"} {
			b.Run(format+"/"+change, func(b *testing.B) {
				dir := scratch(b)
				newest := manySnapshots(b, dir, format, change)
				b.Run("warm", func(b *testing.B) { findInTurns(b, dir, newest, false, "--name", "*17.txt") })
				b.Run("cold", func(b *testing.B) { findInTurns(b, dir, newest, true, "--name", "*17.txt") })
				b.Run("all", func(b *testing.B) { findInTurns(b, dir, newest, true) })
			})
		}
	}
}

func findInTurns(b *testing.B, dir, newest string, cold bool, filter ...string) {
	if cold {
		needDropCaches(b)
	}
	took, used := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		for _, at := range []string{newest, filepath.Dir(newest)} {
			if cold {
				dropCaches(b)
			}
			cmd := exec.Command(program, append([]string{"find", filepath.Join(dir, "store"), at}, filter...)...)
			cmd.Env = append(os.Environ(), "PBSFS_CONFIG_DIR="+dir, "PBSFS_RUN_DIR="+dir)
			start := time.Now()
			out, err := cmd.Output()
			took[at] = append(took[at], time.Since(start).Seconds())
			check(b, err)
			used[at] = append(used[at], (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
			if bytes.Count(out, []byte("\n")) < searchedEntries/200 {
				b.Fatalf("%s: found only %d bytes of lines", at, len(out))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for unit, m := range map[string]map[string][]float64{"s": took, "cpu-s": used} {
		one, all := median(m[newest]), median(m[filepath.Dir(newest)])
		b.ReportMetric(one, "one-"+unit)
		b.ReportMetric(all, "hundred-"+unit)
		b.ReportMetric(all/one, "x-one-"+unit)
	}
}

// searched is a file of the tree that is searched.
type searched struct {
	size  int64
	mtime int64
}

// searchedTree are the files by their directories.
type searchedTree map[string]map[string]searched

// manySnapshots writes a group of snapshots, and returns the path of the newest.
func manySnapshots(b *testing.B, dir, format, changes string) string {
	b.Helper()
	ctx, random := context.Background(), rand.New(rand.NewPCG(1, 2))
	host, err := hosts.NewHost(hosts.HostOptions{ConfigDir: dir, RunDir: dir, UID: os.Geteuid(), Getenv: func(string) string { return "" }})
	check(b, err)
	check(b, store.Create(ctx, filepath.Join(dir, "store")))
	ref, err := store.Open(ctx, store.Options{Name: "bench", Path: filepath.Join(dir, "store"), Host: host})
	check(b, err)
	defer ref.Close()
	w, err := ref.AcquireWriter(ctx)
	check(b, err)
	defer w.Release()
	group, err := name.NewGroup(name.Namespace{}, name.Host, "many")
	check(b, err)
	tree := newSearchedTree(random)
	var newest string
	for i := range searchedSnapshots {
		s, err := store.BeginSnapshot(ctx, w, group, store.SnapshotOptions{Time: time.Unix(1_700_000_000+int64(i)*86400, 0)})
		check(b, err)
		if format == "split" {
			check(b, tree.writeSplit(ctx, s))
		} else {
			check(b, tree.writeUnified(ctx, s))
		}
		check(b, s.Finish(ctx))
		newest = s.Name().String()
		if changes != "same" {
			tree.change(random, changes == "far")
		}
	}
	return newest
}

func newSearchedTree(random *rand.Rand) searchedTree {
	const perDir = 50
	t := searchedTree{}
	for i := range searchedEntries {
		d := fmt.Sprintf("usr-%02d/share-%03d", i/perDir/60, i/perDir%60)
		if t[d] == nil {
			t[d] = map[string]searched{}
		}
		t[d][fmt.Sprintf("file-of-a-package-%x-%d.txt", random.Uint32N(1<<20), i)] = searched{100 + random.Int64N(300), 1_600_000_000 + random.Int64N(1e8)}
	}
	return t
}

// change changes a few files.
func (t searchedTree) change(random *rand.Rand, far bool) {
	dirs, n := slices.Sorted(maps.Keys(t)), nearChanges
	if far {
		n = farChanges
	}
	d := dirs[random.IntN(len(dirs))]
	for range n {
		if far {
			d = dirs[random.IntN(len(dirs))]
		}
		names := slices.Sorted(maps.Keys(t[d]))
		file := names[random.IntN(len(names))]
		f := t[d][file]
		f.mtime += 100
		f.size += random.Int64N(50) - 25
		t[d][file] = f
	}
}

// write writes the tree with an encoder, and lists it unless there is no catalog.
func (t searchedTree) write(e *pxar.Encoder, list *catalog.Encoder) error {
	if list == nil {
		list = catalog.NewEncoder(io.Discard)
		if err := list.StartDir("nothing"); err != nil {
			return err
		}
	}
	last := ""
	for _, d := range slices.Sorted(maps.Keys(t)) {
		top, sub := filepath.Split(d)
		if top != last {
			if last != "" {
				if err := errors.Join(e.EndDir(), list.EndDir()); err != nil {
					return err
				}
			}
			last = top
			if err := startDir(e, list, filepath.Clean(top)); err != nil {
				return err
			}
		}
		if err := startDir(e, list, sub); err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(t[d])) {
			f := t[d][n]
			content := make([]byte, f.size)
			rand.NewChaCha8([32]byte(append(binary.LittleEndian.AppendUint64(nil, uint64(f.mtime)), fmt.Sprintf("%-24.24s", n)...))).Read(content)
			m := &pxar.Metadata{Mode: unix.S_IFREG | 0o644, Mtime: pxar.Timestamp{Sec: f.mtime, Nsec: uint32(f.mtime % 1e9)}}
			if _, err := e.AddFile(n, m, f.size, bytes.NewReader(content)); err != nil {
				return err
			}
			if err := list.Add(catalog.Entry{Name: n, Kind: catalog.File, Size: uint64(f.size), Mtime: f.mtime}); err != nil {
				return err
			}
		}
		if err := errors.Join(e.EndDir(), list.EndDir()); err != nil {
			return err
		}
	}
	return errors.Join(e.EndDir(), list.EndDir())
}

func startDir(e *pxar.Encoder, list *catalog.Encoder, n string) error {
	return errors.Join(e.StartDir(n, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755}), list.StartDir(n))
}

// streamOf begins a stream of a snapshot.
func streamOf(ctx context.Context, s *store.SnapshotWriter, file string) (*store.StreamWriter, error) {
	f, err := name.ParseFile(file)
	if err != nil {
		return nil, err
	}
	return s.Stream(ctx, f)
}

func (t searchedTree) writeUnified(ctx context.Context, s *store.SnapshotWriter) error {
	listed, err := streamOf(ctx, s, name.Catalog.String())
	if err != nil {
		return err
	}
	w, err := streamOf(ctx, s, "root.pxar.didx")
	if err != nil {
		return err
	}
	list := catalog.NewEncoder(listed)
	e, err := pxar.NewEncoder(w, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755})
	if err != nil {
		return err
	}
	return errors.Join(list.StartDir("root.pxar.didx"), t.write(e, list), list.EndDir(), list.Close(), e.Close(), w.Close(), listed.Close())
}

func (t searchedTree) writeSplit(ctx context.Context, s *store.SnapshotWriter) error {
	meta, err := streamOf(ctx, s, "root.mpxar.didx")
	if err != nil {
		return err
	}
	payload, err := streamOf(ctx, s, "root.ppxar.didx")
	if err != nil {
		return err
	}
	e, err := pxar.NewSplitEncoder(meta, payload, nil, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755})
	if err != nil {
		return err
	}
	return errors.Join(t.write(e, nil), e.Close(), meta.Close(), payload.Close())
}
