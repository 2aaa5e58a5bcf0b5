package api

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// aboutSnapshots are the operations that list groups, snapshots and their files.
func aboutSnapshots() []*operation {
	return []*operation{
		answering("GET", "admin/datastore/{store}/groups", token.Audit, "list the backup groups of a namespace", listGroups).bounded(listings),
		answering("GET", "admin/datastore/{store}/snapshots", token.Audit, "list the snapshots of a namespace or of a group", listSnapshots).bounded(listings),
		answering("GET", "admin/datastore/{store}/files", token.Audit, "list the files of a snapshot", listFiles).with("incomplete"),
	}
}

// groupsIn are the parameters of listGroups.
type groupsIn struct {
	oneStore
	NS name.Namespace `param:"ns,optional" doc:"the namespace; without it the root"`
}

// GroupItem is a line in the list of groups.
type GroupItem struct {
	Type       string   `json:"backup-type"`
	ID         string   `json:"backup-id"`
	Count      int      `json:"backup-count"`
	LastBackup int64    `json:"last-backup"`
	Owner      string   `json:"owner,omitempty"`
	Files      []string `json:"files"` // of the newest snapshot
	Comment    string   `json:"comment,omitempty"`
}

func listGroups(c *call, in groupsIn) ([]GroupItem, error) {
	out := []GroupItem{}
	err := c.view(in.Store, func(ctx context.Context, _ *opened, r *store.Reader) error {
		return eachGroup(ctx, r, in.NS, "", func(g name.Group) error {
			item, err := groupItem(ctx, r, g)
			if err == nil {
				out = append(out, item)
			}
			return err
		})
	})
	return out, err
}

// eachGroup calls fn for the groups of a namespace; of one type, if that is given.
func eachGroup(ctx context.Context, r *store.Reader, ns name.Namespace, only name.Type, fn func(name.Group) error) error {
	types, err := store.Types(ctx, r, ns)
	if err != nil {
		return missing("namespace", ns.String(), err)
	}
	for _, t := range types {
		if only != "" && t != only {
			continue
		}
		groups, err := store.Groups(ctx, r, ns, t)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if err := fn(g); err != nil {
				return err
			}
		}
	}
	return nil
}

func groupItem(ctx context.Context, r *store.Reader, g name.Group) (GroupItem, error) {
	item := GroupItem{Type: string(g.Type()), ID: g.ID(), Files: []string{}}
	snaps, err := store.Snapshots(ctx, r, g)
	if err != nil {
		return item, err
	}
	if item.Owner, err = groupText(ctx, r, g, store.Owner); err != nil {
		return item, err
	}
	if item.Comment, err = groupText(ctx, r, g, store.Notes); err != nil {
		return item, err
	}
	item.Count = len(snaps)
	if len(snaps) == 0 {
		return item, nil
	}
	newest := snaps[len(snaps)-1]
	item.LastBackup = newest.Time().Unix()
	s, err := store.LoadSnapshot(ctx, r, newest)
	if err != nil { // its own line in the list of snapshots says why
		return item, nil
	}
	for _, f := range filesOf(s) {
		item.Files = append(item.Files, f.Filename)
	}
	return item, nil
}

// groupText returns the first line of a text file of a group, "" if there is none.
func groupText(ctx context.Context, r *store.Reader, g name.Group, f store.GroupFile) (string, error) {
	text, _, err := store.ReadGroupFile(ctx, r, g, f)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return firstLine(string(text)), err
}

// snapshotsIn are the parameters of listSnapshots.
type snapshotsIn struct {
	groupsIn
	Type name.Type `param:"backup-type,optional" doc:"only those of this type"`
	ID   string    `param:"backup-id,optional" doc:"only those of the group with this id"`
}

// SnapshotItem is a line in the list of snapshots.
type SnapshotItem struct {
	Type         string        `json:"backup-type"`
	ID           string        `json:"backup-id"`
	Time         int64         `json:"backup-time"`
	Size         *int64        `json:"size"` // null without a readable manifest
	Files        []FileItem    `json:"files"`
	Owner        string        `json:"owner,omitempty"`
	Protected    bool          `json:"protected"`
	Comment      string        `json:"comment,omitempty"`
	Fingerprint  string        `json:"fingerprint,omitempty"`
	Verification *Verification `json:"verification,omitempty"`
	Problem      string        `json:"problem,omitempty"`
}

// Verification is the result of the server's last look at a snapshot.
type Verification struct {
	State string `json:"state"`
	UPID  string `json:"upid"`
}

// FileItem is a file of a snapshot, by its stored name.
type FileItem struct {
	Filename string `json:"filename"`
	Crypt    string `json:"crypt-mode,omitempty"`
	Size     *int64 `json:"size,omitempty"`
	// Shown is the name in a mounted tree, and Problem says why the file cannot be read.
	Shown   string `json:"shown,omitempty"`
	Problem string `json:"problem,omitempty"`
}

func listSnapshots(c *call, in snapshotsIn) ([]SnapshotItem, error) {
	out := []SnapshotItem{}
	found := false
	err := c.view(in.Store, func(ctx context.Context, _ *opened, r *store.Reader) error {
		return eachGroup(ctx, r, in.NS, in.Type, func(g name.Group) error {
			if in.ID != "" && g.ID() != in.ID {
				return nil
			}
			found = true
			items, err := c.snapshotItems(ctx, r, in.Store, g)
			out = append(out, items...)
			return err
		})
	})
	if err == nil && !found && in.ID != "" {
		err = missing("group", string(in.Type)+"/"+in.ID, fs.ErrNotExist)
	}
	return out, err
}

// snapshotItems lists the snapshots of a group. A snapshot that cannot be read is listed
// all the same.
func (c *call) snapshotItems(ctx context.Context, r *store.Reader, datastore storeName, g name.Group) ([]SnapshotItem, error) {
	owner, err := groupText(ctx, r, g, store.Owner)
	if err != nil {
		return nil, err
	}
	snaps, err := store.Snapshots(ctx, r, g)
	if err != nil {
		return nil, err
	}
	out := make([]SnapshotItem, 0, len(snaps))
	for _, snap := range snaps {
		item := SnapshotItem{Type: string(g.Type()), ID: g.ID(), Time: snap.Time().Unix(), Files: []FileItem{}, Owner: owner}
		var own *store.Error
		switch s, err := store.LoadSnapshot(ctx, r, snap); {
		case err == nil:
			item.fill(s)
		case errors.As(err, &own):
			item.Problem = c.noting(datastore, err).Error()
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
			continue
		default:
			return nil, err
		}
		out = append(out, item)
	}
	return out, nil
}

// fill adds what the manifest says.
func (item *SnapshotItem) fill(s *store.Snapshot) {
	m := s.Manifest()
	item.Files = filesOf(s)
	var size int64
	for _, f := range item.Files {
		if f.Size != nil {
			size += *f.Size
		}
	}
	item.Size = &size
	item.Protected = s.Protected()
	item.Comment = firstLine(m.Notes)
	if fp, ok := m.KeyFingerprint(); ok {
		item.Fingerprint = fp.String()
	}
	if m.VerifyState != "" {
		item.Verification = &Verification{State: m.VerifyState}
	}
}

// filesOf lists the files of a snapshot, as PBS does: those of the manifest, the manifest
// itself, and the client's log.
func filesOf(s *store.Snapshot) []FileItem {
	m := s.Manifest()
	out := make([]FileItem, 0, len(m.Files)+2)
	for _, f := range m.Files {
		out = append(out, FileItem{Filename: f.Name.String(), Crypt: f.Mode.String(), Size: &f.Size})
	}
	crypt, size := manifest.CryptModeNone, s.ManifestSize()
	if m.Signature != "" {
		crypt = manifest.CryptModeSignOnly
	}
	out = append(out, FileItem{Filename: name.Manifest.String(), Crypt: crypt.String(), Size: &size})
	if s.HasClientLog() {
		out = append(out, FileItem{Filename: name.ClientLog.String()})
	}
	return out
}

// snapshotIn are the parameters of operations on a snapshot.
type snapshotIn struct {
	oneStore
	NS   name.Namespace `param:"ns,optional" doc:"the namespace; without it the root"`
	Type name.Type      `param:"backup-type" doc:"the type of the backup"`
	ID   string         `param:"backup-id" doc:"the id of the group"`
	Time name.Time      `param:"backup-time" doc:"the time of the backup, in seconds since 1970"`
}

// snapshot returns the snapshot that the parameters name.
func (in snapshotIn) snapshot() (name.Snapshot, error) {
	g, err := name.NewGroup(in.NS, in.Type, in.ID)
	if err != nil {
		return name.Snapshot{}, &badParam{"backup-id", err}
	}
	return name.NewSnapshot(g, in.Time)
}

// load returns the snapshot with its manifest.
func (in snapshotIn) load(ctx context.Context, r store.CanRead) (*store.Snapshot, error) {
	snap, err := in.snapshot()
	if err != nil {
		return nil, err
	}
	s, err := store.LoadSnapshot(ctx, r, snap)
	return s, missing("snapshot", snap.String(), err)
}

func listFiles(c *call, in snapshotIn) (out []FileItem, err error) {
	err = c.view(in.Store, func(ctx context.Context, d *opened, r *store.Reader) error {
		s, err := in.load(ctx, r)
		if err != nil {
			return err
		}
		out = filesOf(s)
		var left []string
		for _, p := range s.Manifest().Problems {
			left = append(left, p.Error())
		}
		if len(left) > 0 {
			c.put("incomplete", strings.Join(left, "; "))
		}
		return c.addShown(ctx, d, r, s.Name(), out)
	})
	return out, err
}
