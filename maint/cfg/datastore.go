package cfg

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/maint/text"
)

// RemovableRoot is where removable datastores are mounted, each under its name.
const RemovableRoot = "/mnt/datastore"

// Datastore is an entry of datastore.cfg.
type Datastore struct {
	Name string
	// Path is the path in the entry: a directory, or for a removable datastore the path
	// on its device.
	Path string
	// BackingDevice is the UUID of a removable datastore's file system.
	BackingDevice string
	Backend       string // "filesystem" or "s3"
	// Client is the entry of s3.cfg for the server with the Bucket of an s3 backend.
	Client, Bucket string
	Comment        string
	Mode           Mode
	// File is the datastore.cfg that has the entry.
	File string
}

// Removable reports whether the datastore lies on a removable device.
func (d Datastore) Removable() bool { return d.BackingDevice != "" }

// S3 reports whether the directory is only a cache of a bucket.
func (d Datastore) S3() bool { return d.Backend == "s3" }

// Dir returns the directory in which the datastore is found.
func (d Datastore) Dir() string {
	if d.Removable() {
		return filepath.Join(RemovableRoot, d.Name)
	}
	return d.Path
}

// On reports whether the entry says that the datastore is in the directory rel of the
// device with that UUID.
func (d Datastore) On(uuid, rel string) bool {
	return d.Removable() && strings.EqualFold(d.BackingDevice, uuid) && filepath.Join("/", d.Path) == filepath.Join("/", rel)
}

// Datastore reads a section. If a key occurs twice, the first value counts, except for
// the mode, which is then unknown.
func (c *Config) Datastore(s section, file string) Datastore {
	d := Datastore{Name: s.name, Backend: "filesystem", Mode: c.Mode(s.name), File: file}
	if d.Mode.Type == Unknown {
		d.Mode.Problem = file + ": " + d.Mode.Problem
	}
	for _, p := range slices.Backward(s.props) {
		switch p.key {
		case "path":
			d.Path = p.value
		case "backing-device":
			d.BackingDevice = p.value
		case "comment":
			d.Comment = p.value
		case "backend":
			d.setBackend(p.value)
		}
	}
	return d
}

// setBackend reads a backend property. One that cannot be parsed is a type of its own.
func (d *Datastore) setBackend(value string) {
	props, err := parseProperties(value)
	if err != nil {
		d.Backend = value
		return
	}
	for _, p := range props {
		switch p.key {
		case "type", "":
			d.Backend = p.value
		case "client":
			d.Client = p.value
		case "bucket":
			d.Bucket = p.value
		}
	}
}

var (
	nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{2,31}$`)
	uuidRule = regexp.MustCompile(`^[0-9A-Fa-f-]{4,64}$`)
)

// ErrBadDatastore is found in complaints about the name or the place that a new
// datastore was to get.
var ErrBadDatastore = errors.New("bad description of a datastore")

// badDatastore is such a complaint.
type badDatastore struct{ error }

func (badDatastore) Is(target error) bool { return target == ErrBadDatastore }

// Check says why the entry cannot be written. Its error matches [ErrBadDatastore].
func (d Datastore) Check() error {
	if err := d.wrong(); err != nil {
		return badDatastore{err}
	}
	return nil
}

func (d Datastore) wrong() error {
	switch {
	case !nameRule.MatchString(d.Name) || strings.HasSuffix(d.Name, ".lock"):
		return fmt.Errorf("%q is not a name for a datastore: 3 to 32 letters, digits, '.', '_', '-'", d.Name)
	case d.Path == "" || len(d.Path) > 4096 || text.Printable(d.Path) != d.Path || strings.TrimSpace(d.Path) != d.Path:
		return fmt.Errorf("%q cannot be written into %s as a path", d.Path, FileName)
	case !d.Removable() && !filepath.IsAbs(d.Path):
		return fmt.Errorf("path %q is not absolute", d.Path)
	case d.Removable() && !uuidRule.MatchString(d.BackingDevice):
		return fmt.Errorf("%q is not the UUID of a file system", d.BackingDevice)
	case text.Printable(d.Comment) != d.Comment:
		return errors.New("control character in the comment")
	}
	return nil
}

// Added returns the file with one more section.
func (c *Config) Added(d Datastore) []byte {
	var b bytes.Buffer
	b.Write(c.Bytes())
	if n := len(c.lines); n > 0 {
		if lineEnd(c.lines[n-1]) == "" {
			b.WriteByte('\n')
		}
		if strings.TrimSpace(c.lines[n-1]) != "" {
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "%s: %s\n\tpath %s\n", SectionType, d.Name, d.Path)
	if d.Removable() {
		fmt.Fprintf(&b, "\tbacking-device %s\n", d.BackingDevice)
	}
	if d.S3() {
		fmt.Fprintf(&b, "\tbackend type=s3,client=%s,bucket=%s\n", d.Client, d.Bucket)
	}
	if comment := strings.TrimSpace(d.Comment); comment != "" {
		fmt.Fprintf(&b, "\tcomment %s\n", comment)
	}
	return b.Bytes()
}

// Removed returns the file without a section and without one blank line behind it.
func (c *Config) Removed(s *section) []byte {
	end := s.last + 1
	if end < len(c.lines) && strings.TrimSpace(c.lines[end]) == "" {
		end++
	}
	return []byte(strings.Join(c.lines[:s.header], "") + strings.Join(c.lines[end:], ""))
}
