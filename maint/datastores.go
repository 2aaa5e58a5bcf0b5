package maint

import (
	"github.com/pbsfs/pbsfs/maint/text"

	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// RemovableRoot is where removable datastores are mounted, each under its name.
const RemovableRoot = "/mnt/datastore"

// ErrPBSOwns says that datastore.cfg is PBS's, where datastores are added and
// removed with PBS's own tools.
var ErrPBSOwns = errors.New("datastores of this host are managed by PBS")

// ErrExists says that a datastore of that name is listed already.
var ErrExists = errors.New("datastore exists")

// Datastore is an entry of datastore.cfg.
type Datastore struct {
	Name string
	// Path is what the entry says: a directory, or for a removable datastore
	// the place on its device.
	Path string
	// BackingDevice is the UUID of a removable datastore's file system.
	BackingDevice string
	Backend       string // "filesystem" or "s3"
	Comment       string
	Mode          Mode
	// File is the datastore.cfg that has the entry.
	File string
}

// Removable says whether the datastore lies on a device that comes and goes.
func (d Datastore) Removable() bool { return d.BackingDevice != "" }

// S3 says whether the directory is only a cache of a bucket.
func (d Datastore) S3() bool { return d.Backend == "s3" }

// Dir is the directory in which the datastore is found.
func (d Datastore) Dir() string {
	if d.Removable() {
		return filepath.Join(RemovableRoot, d.Name)
	}
	return d.Path
}

// On says whether a datastore is configured to be the one in the directory rel
// of the device with that UUID.
func (d Datastore) On(uuid, rel string) bool {
	return d.Removable() && strings.EqualFold(d.BackingDevice, uuid) && filepath.Join("/", d.Path) == filepath.Join("/", rel)
}

// Datastores lists what is configured, our own datastore.cfg first. A name that
// is in two files is listed once, with the stricter mode.
func Datastores(host Host) ([]Datastore, error) {
	if len(host.configs) == 0 {
		return nil, errNoHost
	}
	var list []Datastore
	for _, place := range host.configs {
		data, _, err := readConfig(place.file())
		if err != nil {
			return nil, err
		}
		c := parseConfig(data)
		if c.problem != "" && len(c.sections) == 0 {
			return nil, fmt.Errorf("%s: %s", place.file(), c.problem)
		}
		for _, s := range c.sections {
			if s.kind == sectionType {
				list = addListed(list, c.datastore(s, place.file()))
			}
		}
	}
	return list, nil
}

func addListed(list []Datastore, d Datastore) []Datastore {
	i := slices.IndexFunc(list, func(o Datastore) bool { return o.Name == d.Name })
	if i < 0 {
		return append(list, d)
	}
	list[i].Mode = stricter(list[i].Mode, d.Mode)
	return list
}

// datastore reads a section. Of a key that is there twice the first counts,
// except for the mode, which is then unknown.
func (c *config) datastore(s section, file string) Datastore {
	d := Datastore{Name: s.name, Backend: "filesystem", Mode: c.mode(s.name), File: file}
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
			d.Backend = backendType(p.value)
		}
	}
	return d
}

// backendType is the type in a backend property; what cannot be read is shown
// as it stands.
func backendType(value string) string {
	props, err := parseProperties(value)
	if err != nil {
		return value
	}
	for _, p := range props {
		if p.key == "type" || p.key == "" {
			return p.value
		}
	}
	return "filesystem"
}

var (
	nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{2,31}$`)
	uuidRule = regexp.MustCompile(`^[0-9A-Fa-f-]{4,64}$`)
)

// ErrBadDatastore is found in complaints about what a datastore was to be called,
// and where it was said to lie.
var ErrBadDatastore = errors.New("bad description of a datastore")

// badDatastore is such a complaint.
type badDatastore struct{ error }

func (badDatastore) Is(target error) bool { return target == ErrBadDatastore }

func (d Datastore) check() error {
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
		return fmt.Errorf("%q cannot be written into %s as a path", d.Path, configName)
	case !d.Removable() && !filepath.IsAbs(d.Path):
		return fmt.Errorf("path %q is not absolute", d.Path)
	case d.Removable() && !uuidRule.MatchString(d.BackingDevice):
		return fmt.Errorf("%q is not the UUID of a file system", d.BackingDevice)
	case text.Printable(d.Comment) != d.Comment:
		return errors.New("control character in the comment")
	}
	return nil
}

// AddDatastore lists a datastore in our own datastore.cfg: Name, Path,
// BackingDevice and Comment. Whether there is one at the path is not looked at.
func AddDatastore(ctx context.Context, host Host, d Datastore) error {
	if err := d.check(); err != nil {
		return err
	}
	if err := d.isNew(ctx, host); err != nil {
		return err
	}
	return editConfig(ctx, host, func(c *config) ([]byte, error) {
		if err := d.nameIsNew(host); err != nil {
			return nil, err
		}
		return c.added(d), nil
	})
}

// CheckAdd says why [AddDatastore] would refuse a datastore, for who is about to
// make one.
func CheckAdd(ctx context.Context, host Host, d Datastore) error {
	if host.IsPBS() {
		return ErrPBSOwns
	}
	if err := d.check(); err != nil {
		return err
	}
	return d.isNew(ctx, host)
}

// isNew complains about a name or datastore that is listed already.
func (d Datastore) isNew(ctx context.Context, host Host) error {
	listed, err := Datastores(host)
	if err != nil {
		return err
	}
	if err := d.nameIsNew(host); err != nil {
		return err
	}
	all := Identities(ctx, host, append(slices.Clone(listed), d))
	own := all[len(listed)]
	for i, other := range listed {
		if own.Same(all[i]) || !d.Removable() && !other.Removable() && filepath.Clean(other.Path) == filepath.Clean(d.Path) {
			return fmt.Errorf("%s is datastore %s in %s: %w", d.Path, other.Name, other.File, ErrExists)
		}
	}
	return nil
}

// nameIsNew complains about a name that is listed already.
func (d Datastore) nameIsNew(host Host) error {
	listed, err := Datastores(host)
	if err != nil {
		return err
	}
	for _, other := range listed {
		if other.Name == d.Name {
			return fmt.Errorf("datastore %s in %s: %w", d.Name, other.File, ErrExists)
		}
	}
	return nil
}

// added is the file with a section more.
func (c *config) added(d Datastore) []byte {
	var b bytes.Buffer
	b.Write(c.bytes())
	if n := len(c.lines); n > 0 {
		if lineEnd(c.lines[n-1]) == "" {
			b.WriteByte('\n')
		}
		if strings.TrimSpace(c.lines[n-1]) != "" {
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "%s: %s\n\tpath %s\n", sectionType, d.Name, d.Path)
	if d.Removable() {
		fmt.Fprintf(&b, "\tbacking-device %s\n", d.BackingDevice)
	}
	if comment := strings.TrimSpace(d.Comment); comment != "" {
		fmt.Fprintf(&b, "\tcomment %s\n", comment)
	}
	return b.Bytes()
}

// RemoveDatastore takes a datastore off our own datastore.cfg; its files stay.
// It is refused with a [*ConflictError] while operations are active, under this
// name or others that the datastore has or had.
func RemoveDatastore(ctx context.Context, host Host, name string, also ...string) error {
	if len(host.configs) == 0 {
		return errNoHost
	}
	counted := newTally(host, name)
	counted.also = also
	names, err := counted.names(ctx)
	if err != nil {
		return err
	}
	return editConfig(ctx, host, func(c *config) ([]byte, error) {
		s, err := c.find(name)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return nil, fmt.Errorf("datastore %s: %w", name, ErrNotConfigured)
		}
		procs, err := counted.conflictingUnder(names, Offline)
		if err != nil {
			return nil, err
		}
		if len(procs) > 0 {
			return nil, &ConflictError{Store: name, Type: Delete, Processes: procs}
		}
		return c.removed(s), nil
	})
}

// removed is the file without a section and one blank line behind it.
func (c *config) removed(s *section) []byte {
	end := s.last + 1
	if end < len(c.lines) && strings.TrimSpace(c.lines[end]) == "" {
		end++
	}
	return []byte(strings.Join(c.lines[:s.header], "") + strings.Join(c.lines[end:], ""))
}

// editConfig replaces our own datastore.cfg under its lock.
func editConfig(ctx context.Context, host Host, edit func(*config) ([]byte, error)) error {
	if len(host.configs) == 0 {
		return errNoHost
	}
	if host.pbs {
		return ErrPBSOwns
	}
	lock, err := lockOwnConfig(ctx, host)
	if err != nil {
		return err
	}
	defer lock.unlock()
	data, _, err := readConfig(host.configs[0].file())
	if err != nil {
		return err
	}
	c := parseConfig(data)
	if c.problem != "" {
		return fmt.Errorf("%s: %s", host.configs[0].file(), c.problem)
	}
	out, err := edit(c)
	if err != nil {
		return err
	}
	return writeConfig(host, out)
}

// writeConfig replaces our own datastore.cfg. Called under its lock.
func writeConfig(host Host, data []byte) error {
	own, mode := owner{}, os.FileMode(0o644)
	switch {
	case host.pbs:
		own, mode = owner{gid: host.files.gid, set: host.files.set}, 0o640
	case host.uid != 0:
		mode = 0o600
	}
	return replaceConfig(host.configs[0].file(), data, own, mode)
}
