package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fixtures are the datastores that there is a truth about.
var fixtures = []string{"ds-basic", "ds-crypt", "ds-nasty", "ds-split"}

// fixtureDir returns the directory of all fixtures.
func fixtureDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PBSFS_FIXTURES")
	if dir == "" {
		t.Skip("PBSFS_FIXTURES is not set: not tested on datastores of a real server")
	}
	return dir
}

// fixture returns the path of a datastore, which must not be changed.
func fixture(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(fixtureDir(t), name)
	if _, err := os.Stat(filepath.Join(dir, ".chunks")); err != nil {
		t.Fatalf("PBSFS_FIXTURES: no datastore %s: %v", name, err)
	}
	return dir
}

// copyFixture returns a copy of a datastore, to be changed.
func copyFixture(t *testing.T, name string) string {
	t.Helper()
	from := fixture(t, name)
	to := filepath.Join(tempDir(t), name)
	tool(t, "cp", "-a", "--reflink=auto", from, to)
	return to
}

// entry is what is known about a file: of an archive, or one that is a whole
// image, blob or log and so has no path.
type entry struct {
	Path   *[]byte           `json:"path"` // below the archive
	Type   string            `json:"type"`
	Mode   uint32            `json:"mode"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Mtime  *timestamp        `json:"mtime_ns"` // nil: not known
	Size   int64             `json:"size"`
	SHA256 string            `json:"sha256"`
	Target []byte            `json:"target"`
	Rdev   []uint32          `json:"rdev"`
	Xattrs map[string][]byte `json:"xattrs"` // the names are in base64
	Nlink  uint64            `json:"nlink"`  // 0: as for a file without other links
	Group  int               `json:"nlink_group"`

	Flags   *uint32 `json:"fsflags"` // of chattr; nil: not known
	Project uint32  `json:"projid"`

	PartOffset int64 `json:"part_offset"` // of an image's ext4 partition
}

// timestamp is a time that need not fit into 64 bits of nanoseconds.
type timestamp struct{ sec, nsec int64 }

// UnmarshalJSON reads nanoseconds since 1970.
func (ts *timestamp) UnmarshalJSON(text []byte) error {
	all, ok := new(big.Int).SetString(string(text), 10)
	if !ok {
		return fmt.Errorf("%q is no number of nanoseconds", text)
	}
	sec, nsec := new(big.Int).DivMod(all, big.NewInt(1e9), new(big.Int))
	*ts = timestamp{sec.Int64(), nsec.Int64()}
	return nil
}

// archive is what is known about one file or directory of a snapshot.
type archive struct {
	name    string // SNAPSHOT/ARCHIVE, as below the mount point
	entries []entry
}

// isTree tells an archive of files from a single file.
func (a archive) isTree() bool { return a.entries[0].Path != nil }

// snapshot returns the path of the snapshot that the archive belongs to.
func (a archive) snapshot() string { return filepath.Dir(a.name) }

// truth returns all that is known about a datastore, by name.
func truth(t *testing.T, name string) []archive {
	t.Helper()
	root := filepath.Join(fixtureDir(t), "truth", name)
	var out []archive
	must(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		rel, ok := strings.CutSuffix(strings.TrimPrefix(p, root+"/"), ".jsonl")
		if err != nil || d.IsDir() || !ok || strings.HasPrefix(filepath.Ext(rel), ".part") {
			return err
		}
		out = append(out, archive{rel, readTruth(t, p)})
		return nil
	}))
	if len(out) == 0 {
		t.Fatalf("PBSFS_FIXTURES: nothing is known about %s", name)
	}
	return out
}

// truthOf returns what is known about one archive.
func truthOf(t *testing.T, name, which string) archive {
	t.Helper()
	return archive{which, readTruth(t, filepath.Join(fixtureDir(t), "truth", name, which+".jsonl"))}
}

func readTruth(t *testing.T, path string) []entry {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var out []entry
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, e)
	}
	must(t, lines.Err())
	if len(out) == 0 {
		t.Fatalf("%s: empty", path)
	}
	return out
}

// locked reports whether an archive of ds-crypt or ds-split needs a key.
func locked(a archive) bool {
	if strings.HasPrefix(a.name, "host/split-enc/") {
		return true
	}
	encrypted := []string{"host/enc/", "host/scrypt/", "host/pbkdf2/", "host/master/", "vm/200/"}
	return slices.ContainsFunc(encrypted, func(group string) bool { return strings.HasPrefix(a.name, group) })
}
