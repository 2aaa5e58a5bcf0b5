package places

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/identity"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/maint/reach"
)

// Spot is what was found at the place of a datastore.
type Spot struct {
	// Dir is the directory, without symbolic links as far as it could be followed.
	Dir string
	// ID is the datastore's identity; it is not seen if there is no datastore.
	ID identity.ID
	// source is the block device that the file system names, or "".
	source string
}

// Memory remembers what was found where. Every look at the place of a datastore goes
// through it, with no lock held, because a place may hang.
type Memory struct {
	Spots *reach.Memory[Spot]
	uuids *reach.Memory[string] // by device

	mu sync.Mutex // guards what follows
	// ask finds the path of a directory on a disk with btrfs; nil if this process does.
	ask   func(mounts.Mount, string) (string, error)
	table [sha256.Size]byte
	epoch uint64 // goes up when the mounts have changed
}

// NewMemory makes an empty memory.
func NewMemory() *Memory {
	p := &Memory{
		uuids: reach.NewMemory(func(path string, _ func(uint64)) (string, error) {
			d, err := device.DeviceAt(path)
			return d.UUID, err
		}),
	}
	p.Spots = reach.NewMemory(p.findSpot)
	return p
}

// AskForPaths has another process find the path of a directory on a disk with btrfs,
// which only CAP_SYS_ADMIN can. What was looked at before stays as it was found.
func (p *Memory) AskForPaths(ask func(m mounts.Mount, dir string) (string, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ask = ask
}

// pathOnDisk returns the path of a directory on the disk that is mounted.
func (p *Memory) pathOnDisk(m mounts.Mount, dir string) string {
	p.mu.Lock()
	ask := p.ask
	p.mu.Unlock()
	if ask != nil && m.FSType == "btrfs" {
		if path, err := ask(m, dir); err == nil {
			return path
		}
	}
	return m.PathOnDisk(dir)
}

// findSpot looks for the datastore in a directory.
func (p *Memory) findSpot(path string, entering func(mount uint64)) (Spot, error) {
	dir, err := reach.FollowVia(path, entering)
	s := Spot{Dir: dir.Path}
	if err != nil {
		return s, err
	}
	if dir.Tree {
		return s, fmt.Errorf("%s: %w", path, ErrInTree)
	}
	chunks, err := reach.FollowVia(dir.Path+"/"+device.ChunksDir, entering)
	switch {
	case err != nil:
		return s, err
	case chunks.Tree, !chunks.IsDir():
		return s, fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	}
	s.ID.Dev, s.ID.Ino = chunks.Dev, chunks.Ino
	if m, ok := mounts.MountByID(dir.Mount); ok {
		s.ID.Path = p.pathOnDisk(m, dir.Path)
		s.ID.Disk = m.Disk()
		if strings.HasPrefix(m.Source, "/dev/") {
			s.source = m.Source
		}
	}
	return s, nil
}

// OnDisk returns a directory in which a datastore that is identified by its place on a
// disk can be seen, if the disk is mounted anywhere.
func (p *Memory) OnDisk(ctx context.Context, id identity.ID) (dir string, ok bool) {
	dev, err := device.FindDevice("UUID=" + id.UUID)
	if err != nil {
		return "", false
	}
	var dirs []string
	for _, m := range dev.Mounts {
		if mounts.Below(id.Path, m.Root) {
			rest, _ := filepath.Rel(m.Root, id.Path)
			dirs = append(dirs, filepath.Join(m.Point, rest))
		}
		dirs = append(dirs, filepath.Join(m.Point, id.Path)) // in a subvolume that is the default
	}
	p.LookFor(ctx, nil, dirs...)
	for _, dir := range dirs {
		if s, err, _ := p.At(dir); err == nil && s.ID.Seen() && id.Same(s.ID) {
			return dir, true
		}
	}
	return "", false
}

// Present returns what remains of an identity when its disk has been unplugged: the
// disk gets another device number when it comes back.
func Present(id identity.ID) identity.ID {
	var major, minor uint32
	if n, _ := fmt.Sscanf(id.Disk, "%d:%d", &major, &minor); n != 2 || id.UUID == "" {
		return id
	}
	if _, err := os.Stat(mounts.SysDevice(unix.Mkdev(major, minor))); errors.Is(err, os.ErrNotExist) {
		return identity.ID{UUID: id.UUID, Path: id.Path}
	}
	return id
}

// Refresh looks whether the mounts have changed since the last time. It returns a
// number that is different after a change.
func (p *Memory) Refresh() uint64 {
	text, err := os.ReadFile("/proc/self/mountinfo")
	sum := sha256.Sum256(text)
	p.mu.Lock()
	changed := err != nil || sum != p.table
	p.table = sum
	p.mu.Unlock()
	if changed {
		return p.Changed()
	}
	return p.Now()
}

// Changed notes that the mounts have changed.
func (p *Memory) Changed() uint64 {
	p.Spots.Changed()
	p.uuids.Changed()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
	return p.epoch
}

// Now returns the number that grows whenever the mounts have changed.
func (p *Memory) Now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

// LookFor looks at the places of entries and at other directories.
func (p *Memory) LookFor(ctx context.Context, list []cfg.Datastore, dirs ...string) {
	all, uuids := slices.Clone(dirs), slices.Clone(dirs)
	removable := slices.ContainsFunc(list, cfg.Datastore.Removable)
	for _, d := range list {
		if d.Path == "" || Untouchable(d) && (d.Removable() || p.LookedAt(d.Dir())) {
			continue
		}
		all = append(all, d.Dir())
		if removable {
			uuids = append(uuids, d.Dir())
		}
	}
	p.Spots.Look(ctx, all...)
	var devices []string
	for _, dir := range uuids {
		if s, _, ok := p.Spots.Known(dir); ok && s.source != "" {
			devices = append(devices, s.source)
		}
	}
	p.uuids.Look(ctx, devices...)
}

// LookedAt reports whether a directory was looked at, however long ago.
func (p *Memory) LookedAt(dir string) bool {
	_, _, ok := p.Spots.Last(dir)
	return ok
}

// At returns what was found at a directory by the last look at it. ok is false if there
// was no look since the mounts have changed.
func (p *Memory) At(dir string) (s Spot, err error, ok bool) {
	if s, err, ok = p.Spots.Known(dir); !ok {
		s, err, _ = p.Spots.Last(dir)
	}
	if s.Dir == "" {
		s.Dir = filepath.Clean(dir)
	}
	if s.source != "" {
		if uuid, err, ok := p.uuids.Known(s.source); ok && err == nil {
			s.ID.UUID = strings.ToLower(uuid)
		}
	}
	return s, err, ok
}

// Of returns the datastore that an entry means, as far as that is known.
func (p *Memory) Of(d cfg.Datastore) (s Spot, err error, ok bool) {
	if d.Path == "" {
		return Spot{}, os.ErrNotExist, true
	}
	s, err, ok = p.At(d.Dir())
	another := s.ID.UUID != "" && !strings.EqualFold(s.ID.UUID, d.BackingDevice)
	if d.Removable() && (!s.ID.Seen() || another) { // the entry does not mean another disk in its place
		s.ID = identity.ID{UUID: strings.ToLower(d.BackingDevice), Path: filepath.Join("/", d.Path)}
	}
	return s, err, ok
}

// Untouchable reports whether the place of an entry must be left alone: its file system
// may be about to be unmounted, and a look at it would hinder that.
func Untouchable(d cfg.Datastore) bool {
	return d.Mode.Type == cfg.Unmount || d.Mode.Type == cfg.Delete || d.Mode.Type == cfg.Offline
}

// ErrInTree says that a path leads into a mounted tree of pbsfs, which is not looked at
// without an explicit request.
var ErrInTree = errors.New("lies in a mounted tree of pbsfs")
