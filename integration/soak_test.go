package integration

import (
	"os"
	"testing"
	"time"
)

// soakTime is how long a test goes on that finds more the longer it runs: as long as
// PBSFS_SOAK says, which make soak sets, otherwise for the seconds that make test has.
func soakTime(t *testing.T, seconds int) time.Duration {
	t.Helper()
	if text := os.Getenv("PBSFS_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		must(t, err)
		return d
	}
	return time.Duration(seconds) * time.Second
}

// soaking reports whether the tests go on as long as make soak says.
func soaking() bool { return os.Getenv("PBSFS_SOAK") != "" }
