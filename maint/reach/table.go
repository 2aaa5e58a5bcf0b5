package reach

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// mountTypes returns the types of all mounted file systems, by mount ID.
func mountTypes() (map[uint64]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	defer f.Close()
	types := make(map[uint64]string)
	for in := bufio.NewReader(f); ; {
		line, err := in.ReadString('\n')
		id, _, _ := strings.Cut(line, " ")
		_, after, ok := strings.Cut(line, " - ")
		kind, _, _ := strings.Cut(after, " ")
		if n, err := strconv.ParseUint(id, 10, 64); ok && err == nil {
			types[n] = kind
		}
		switch {
		case errors.Is(err, io.EOF):
			return types, nil
		case err != nil:
			return nil, fmt.Errorf("reading the mount table: %w", err)
		}
	}
}
