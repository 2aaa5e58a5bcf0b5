package mountlist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kballard/go-shellquote"
)

// Mount is what one file says.
type Mount struct {
	// Name is the name of the file, without its ending.
	Name string
	// Datastore is as for 'pbsfs mount', "" if Options name a device.
	Datastore string
	// Point is an absolute path.
	Point string
	// Options are those of -o.
	Options string
	// Auto says that it is mounted when its device appears.
	Auto bool
}

const (
	ending = ".conf"
	// maxFile bounds the size of a file, in bytes.
	maxFile = 64 << 10
)

// Read reads all files of a directory, in the order of their names. A directory that is
// not there has none. The error joins those of all files that could not be read.
func Read(dir string) ([]Mount, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Mount
	var errs error
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ending)
		if !ok || name == "" || strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, f.Name())
		text, err := readFile(path)
		if err == nil {
			var m Mount
			if m, err = parse(text); err == nil {
				m.Name = name
				out = append(out, m)
				continue
			}
			err = fmt.Errorf("%s: %w", path, err)
		}
		errs = errors.Join(errs, err)
	}
	return out, errs
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: longer than %d bytes", path, maxFile)
	}
	return string(text), err
}

// parse reads the text of one file.
func parse(text string) (Mount, error) {
	var m Mount
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, raw, ok := strings.Cut(line, "=")
		if !ok {
			return m, fmt.Errorf("line %d: %q is not NAME=VALUE", n, line)
		}
		value, err := unquote(strings.TrimSpace(raw))
		if err == nil {
			err = m.set(strings.TrimSpace(key), value)
		}
		if err != nil {
			return m, fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch {
	case m.Point == "":
		return m, errors.New("no MOUNTPOINT in it")
	case !filepath.IsAbs(m.Point):
		return m, fmt.Errorf("MOUNTPOINT=%s: must be an absolute path", m.Point)
	}
	return m, nil
}

// unquote returns the value that systemd reads as well.
func unquote(raw string) (string, error) {
	if !strings.ContainsAny(raw, `"'\`) {
		return raw, nil
	}
	words, err := shellquote.Split(raw)
	if err != nil || len(words) != 1 || raw[0] != '"' && raw[0] != '\'' || raw[len(raw)-1] != raw[0] {
		return "", fmt.Errorf("%s: a value with quotes or backslashes must be in quotes as a whole", raw)
	}
	return words[0], nil
}

func (m *Mount) set(key, value string) error {
	switch key {
	case "DATASTORE":
		m.Datastore = value
	case "MOUNTPOINT":
		m.Point = value
	case "OPTIONS":
		m.Options = value
	case "AUTO":
		switch strings.ToLower(value) {
		case "yes", "true", "1", "on":
			m.Auto = true
		case "no", "false", "0", "off", "":
			m.Auto = false
		default:
			return fmt.Errorf("AUTO=%s: must be yes or no", value)
		}
	default:
		return fmt.Errorf("%q is none of DATASTORE, MOUNTPOINT, OPTIONS, AUTO", key)
	}
	return nil
}
