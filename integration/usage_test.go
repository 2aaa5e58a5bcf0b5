package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// usageSize are the figures of usage --json.
type usageSize struct {
	Restored   int64 `json:"restored"`
	Data       int64 `json:"data"`
	Chunks     int64 `json:"chunks"`
	Only       int64 `json:"only"`
	OnlyChunks int64 `json:"only_chunks"`
	Freed      int64 `json:"freed"`
}

type usageResult struct {
	Groups []struct {
		Group string `json:"group"`
		usageSize
		Snapshots []struct {
			Snapshot string `json:"snapshot"`
			usageSize
		} `json:"snapshots"`
	} `json:"groups"`
	Total usageSize `json:"total"`
}

func (h *host) usage(store string, args ...string) (out usageResult) {
	h.t.Helper()
	r := h.run(append([]string{"usage", store, "--json"}, args...)...)
	r.want(h.t, 0)
	must(h.t, json.Unmarshal([]byte(r.stdout), &out))
	return out
}

// sizes are the lengths of the chunks that snapshots refer to, in the order of their
// indexes, read in the simplest way.
type sizes map[string][]sizedChunk

type sizedChunk struct {
	digest string
	size   int64
}

func readSizes(t *testing.T, store string) sizes {
	t.Helper()
	out := make(sizes)
	must(t, filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".chunks" {
			return fs.SkipDir
		}
		snapshot, rerr := filepath.Rel(store, filepath.Dir(p))
		if err != nil || rerr != nil || !strings.HasSuffix(p, "idx") {
			return err
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(p), "index.json.blob")); err != nil {
			return nil // not finished
		}
		text, err := os.ReadFile(p)
		must(t, err)
		end := int64(0)
		for i, digest := range digestsOf(t, p) {
			begin := end
			if strings.HasSuffix(p, ".didx") {
				end = int64(binary.LittleEndian.Uint64(text[indexHeader+40*i:]))
			} else {
				end = min(begin+int64(binary.LittleEndian.Uint64(text[72:])), int64(binary.LittleEndian.Uint64(text[64:])))
			}
			out[snapshot] = append(out[snapshot], sizedChunk{digest, end - begin})
		}
		return nil
	}))
	return out
}

// slowly computes the figures of what is inside.
func (all sizes) slowly(t *testing.T, store string, inside func(snapshot string) bool) (out usageSize) {
	t.Helper()
	mine, others := make(map[string]int64), make(map[string]bool)
	for snapshot, chunks := range all {
		for _, c := range chunks {
			if inside(snapshot) {
				out.Restored += c.size
				mine[c.digest] = c.size
			} else {
				others[c.digest] = true
			}
		}
	}
	for digest, size := range mine {
		out.Chunks++
		out.Data += size
		if !others[digest] {
			out.OnlyChunks++
			out.Only += size
			st, err := os.Stat(chunkPath(store, digest))
			must(t, err)
			out.Freed += st.Size()
		}
	}
	return out
}

// checkUsage compares all figures with those of a slow computation.
func checkUsage(t *testing.T, h *host, store string) (snapshots int) {
	t.Helper()
	all := readSizes(t, store)
	got := h.usage(store, "--stored")
	check := func(what string, have usageSize, inside func(string) bool) {
		t.Helper()
		if want := all.slowly(t, store, inside); have != want {
			t.Errorf("%s: %s: got %+v, want %+v", store, what, have, want)
		}
	}
	for _, g := range got.Groups {
		check(g.Group, g.usageSize, func(s string) bool { return filepath.Dir(s) == g.Group })
		for _, s := range g.Snapshots {
			snapshots++
			check(s.Snapshot, s.usageSize, func(o string) bool { return o == s.Snapshot })
		}
	}
	check("all", got.Total, func(string) bool { return true })
	if snapshots != len(all) {
		t.Errorf("%s: got %d snapshots, want %d", store, snapshots, len(all))
	}
	return snapshots
}

func TestUsageOfFixtures(t *testing.T) {
	for _, f := range fixtures {
		checkUsage(t, newHost(t), fixture(t, f))
	}
}

// Of 30 snapshots it is known which of their files nothing else has.
func TestUsageOfKnownChanges(t *testing.T) {
	h := newHost(t)
	dir := tempDir(t)
	source, store := subdir(t, dir, "source"), filepath.Join(dir, "store")
	for i := range 200 {
		must(t, os.WriteFile(filepath.Join(source, fmt.Sprintf("file%03d", i)), noise(uint64(i), 40<<10), 0o644))
	}
	const rounds, groups = 3, 10
	for i := range rounds * groups {
		// Each snapshot has an image of one block that is its own, and one of a block that
		// its group has.
		for called, seed := range map[string]int{"own.img": 1000 + i, "group.img": 2000 + i%groups} {
			must(t, os.WriteFile(filepath.Join(dir, called), noise(uint64(seed), 100<<10), 0o644))
		}
		must(t, os.WriteFile(filepath.Join(source, fmt.Sprintf("file%03d", i)), noise(uint64(3000+i), 40<<10), 0o644))
		h.run("snapshot", "create", "root.pxar:"+source, "own.img:"+filepath.Join(dir, "own.img"), "group.img:"+filepath.Join(dir, "group.img"),
			store, "--init", "--id", fmt.Sprintf("h%d", i%groups), "--crypt-mode", "none", "--wait", "10s").want(t, 0)
	}
	if n := checkUsage(t, h, store); n != rounds*groups {
		t.Errorf("got %d snapshots", n)
	}
	for _, g := range h.usage(store).Groups {
		for _, s := range g.Snapshots {
			// Its image, the chunk with the changed file, the catalog and what metadata changed.
			if s.Only < 100<<10 || s.Only > 100<<10+8<<20 || s.OnlyChunks < 2 {
				t.Errorf("%s: %d bytes in %d chunks are its own", s.Snapshot, s.Only, s.OnlyChunks)
			}
		}
		if g.Only < rounds*(100<<10)+100<<10 {
			t.Errorf("%s: %d bytes are its own", g.Group, g.Only)
		}
	}
	one := h.usage(store, "host/h3")
	if len(one.Groups) != 1 || len(one.Groups[0].Snapshots) != rounds {
		t.Errorf("of one group: got %+v", one)
	}
	_, sum := h.verify(0, store, "--unreferenced")
	if sum.Snapshots != rounds*groups || sum.Unreferenced != 0 {
		t.Errorf("verify: got %+v", sum)
	}
}
