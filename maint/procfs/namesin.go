package procfs

import "os"

// NamesIn lists a directory of operations files. A missing directory counts as empty.
func NamesIn(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}
