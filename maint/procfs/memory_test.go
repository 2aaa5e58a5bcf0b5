package procfs

import (
	"os"
	"path/filepath"
	"testing"
)

// The smallest limit counts, that of a control group above included.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	for group, limit := range map[string]string{"": "max", "a": "1073741824", "a/b": "max", "c": "99999999999999", "broken": "x"} {
		at := filepath.Join(dir, group)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "memory.max"), []byte(limit+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const info = "MemTotal:        8388608 kB\nMemFree:         100 kB\n"
	for _, c := range []struct {
		name, info, groups string
		want               int64
	}{
		{"no group", info, "", 8 << 30},
		{"top group", info, "0::/\n", 8 << 30},
		{"limited", info, "0::/a\n", 1 << 30},
		{"limited above", info, "1:memory:/x\n0::/a/b\n", 1 << 30},
		{"more than there is", info, "0::/c\n", 8 << 30},
		{"not readable", info, "0::/broken\n", 8 << 30},
		{"not there", info, "0::/none/such\n", 8 << 30},
		{"another namespace", info, "0::/../../x\n", 8 << 30},
		{"nothing known", "", "", 0},
		{"only a group", "", "0::/a\n", 1 << 30},
		{"wrong figures", "MemTotal: x kB\nMemTotal: -1 kB\n", "", 0},
	} {
		if got := memoryOf(c.info, c.groups, dir); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	if Memory() <= 0 {
		t.Error("the memory of this machine is not known")
	}
}
