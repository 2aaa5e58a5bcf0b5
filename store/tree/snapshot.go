package tree

import (
	"cmp"
	"context"
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// item is an entry in a snapshot's directory.
type item struct {
	shown string
	kind  itemKind
	file  manifest.File // the stored file; zero for items without a line in the manifest
	// payload is the other half of a split archive, zero without one.
	payload manifest.File
}

type itemKind uint8

const (
	manifestItem itemKind = iota
	logItem
	blobItem
	streamItem // an index whose content is shown as it is
	pxarItem
	diskItem // what lies on a disk whose image is a streamItem
)

// itemsOf returns the entries of the snapshot's directory, sorted by name. Names are
// those of the official client. If two stored files would have the same name, each
// keeps its stored name.
func itemsOf(s *store.Snapshot) []item {
	out := []item{{shown: name.Manifest.Stem(), kind: manifestItem}}
	if s.HasClientLog() {
		out = append(out, item{shown: name.ClientLog.Stem(), kind: logItem})
	}
	m := s.Manifest()
	for _, f := range m.Files {
		switch f.Name {
		case name.Manifest, name.ClientLog:
			continue
		}
		if it, ok := itemOf(m, f); ok {
			out = append(out, it)
		}
	}
	for keepStored(out) {
	}
	out = append(out, disksOf(out)...)
	slices.SortFunc(out, func(a, b item) int { return cmp.Compare(a.shown, b.shown) })
	return out
}

// keepStored gives items that would share a name their stored names. It reports whether
// there were any, because a stored name may be the name of another item.
func keepStored(items []item) (changed bool) {
	count := make(map[string]int, len(items))
	for _, it := range items {
		count[it.shown]++
	}
	for i, it := range items {
		if stored := it.file.Name.String(); count[it.shown] > 1 && it.renamable() && it.shown != stored {
			items[i].shown, changed = stored, true
		}
	}
	return changed
}

// itemOf returns the entry for a stored file. There is none for the payload half of an
// archive whose metadata half exists.
func itemOf(m *manifest.Manifest, f manifest.File) (item, bool) {
	it := item{shown: f.Name.Stem(), kind: streamItem, file: f}
	if f.Name.Format() == name.Blob {
		it.kind = blobItem
		return it, true
	}
	switch f.Name.Content() {
	case name.Pxar:
		it.kind = pxarItem
	case name.PxarMeta:
		it.kind, it.shown, it.payload = pxarItem, f.Name.ArchiveName(), m.PayloadOf(f)
	case name.PxarPayload:
		for _, other := range m.Files {
			if half, ok := other.Name.Payload(); ok && half == f.Name {
				return item{}, false
			}
		}
	case name.Stream:
	}
	return it, true
}

// renamable reports whether the item may be shown by its stored name instead.
func (it item) renamable() bool { return it.kind != manifestItem && it.kind != logItem }

// stored returns the stored file of the item.
func (it item) stored() name.File {
	switch it.kind {
	case manifestItem:
		return name.Manifest
	case logItem:
		return name.ClientLog
	case blobItem, streamItem, pxarItem, diskItem:
	}
	return it.file.Name
}

// salt tells two states of an item under one name apart. Only frozen items need it.
func (it item) salt() []byte {
	switch {
	case it.kind != pxarItem && it.kind != streamItem && it.kind != diskItem:
		return nil
	case it.payload != manifest.File{}:
		// The metadata stays the same if only contents have changed.
		return slices.Concat(it.file.Csum[:], it.payload.Csum[:])
	}
	return it.file.Csum[:]
}

// fileType returns the S_IFMT bits of an item.
func (it item) fileType() uint32 {
	if it.kind == pxarItem || it.kind == diskItem {
		return unix.S_IFDIR
	}
	return unix.S_IFREG
}

// snapshot is the directory of a snapshot. The kernel may know many of them, so their
// manifests are not kept here.
type snapshot struct {
	t *Tree
	s name.Snapshot
}

// loaded is a snapshot whose manifest has been read.
type loaded struct {
	t *Tree
	s *store.Snapshot
}

// snapshotNode returns the directory of s. If the manifest is damaged, the directory
// exists but cannot be entered.
func (t *Tree) snapshotNode(ctx context.Context, right store.CanRead, parent *Node, s name.Snapshot) (*Node, error) {
	n := &Node{id: parent.id.child(s.Time().String(), nil), attr: dirAttr(t.ref.Base())}
	n.attr.Mtime = Time{Sec: s.Time().Unix()}
	snap, err := store.LoadSnapshot(ctx, right, s)
	switch {
	case err == nil:
		n.xattrs, n.body = snapshotXattrs(snap), &snapshot{t, s}
	case ofSnapshot(err):
		n.body = &broken{err}
	default:
		return nil, err
	}
	return n, nil
}

// snapshotXattrs returns those parts of a manifest that have no file of their own.
func snapshotXattrs(s *store.Snapshot) xattrs {
	m := s.Manifest()
	var x xattrs
	add := func(name, value string) {
		if value != "" {
			x.small = append(x.small, Attribute{Name: "user.pbs." + name, Value: []byte(value)})
		}
	}
	add("comment", cutText(m.Notes))
	if m.Encrypted() {
		add("encrypted", "yes")
	} else {
		add("encrypted", "no")
	}
	if fp, ok := m.KeyFingerprint(); ok {
		add("fingerprint", fp.String())
	}
	from, _ := m.MovedFrom(s.Name())
	add("moved-from", from)
	if s.Protected() {
		add("protected", "yes")
	}
	add("signature", string(s.Signature()))
	add("sync-source-signature", cutText(m.SyncSource))
	add("verify-state", m.VerifyState)
	return x
}

// maxText is the longest extended attribute on Linux, in bytes. The complete notes are
// in index.json.
const maxText = 64 << 10

// cutText shortens a text that is too long for an attribute, between two characters.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// now returns the present state of the snapshot: since its directory was looked up, its
// manifest may have been replaced, or a key for it added.
func (b *snapshot) now(ctx context.Context, right store.CanRead) (*loaded, error) {
	s, err := store.LoadSnapshot(ctx, right, b.s)
	if err != nil {
		return nil, err
	}
	return &loaded{b.t, s}, nil
}

func (b *snapshot) list(ctx context.Context, right store.CanRead, n *Node) (Listing, error) {
	d, err := b.now(ctx, right)
	if err != nil {
		return nil, err
	}
	l := &names{}
	for _, it := range itemsOf(d.s) {
		l.add(n, it.shown, it.fileType(), it.salt())
		l.entries[len(l.entries)-1].Stored = it.stored()
	}
	for _, p := range d.s.Manifest().Problems {
		l.entries = append(l.entries, Entry{Err: d.s.Wrap(name.Manifest, -1, p)})
	}
	return l, nil
}

// itemKey identifies the node of an item as long as its snapshot has not changed.
type itemKey struct {
	snap *store.Snapshot
	name string
}

func (b *snapshot) lookup(ctx context.Context, right store.CanRead, n *Node, s string) (*Node, error) {
	d, err := b.now(ctx, right)
	if err != nil {
		return nil, err
	}
	key := itemKey{d.s, s}
	if known, ok := d.t.items.Get(key); ok {
		return known, nil
	}
	items := itemsOf(d.s)
	i := slices.IndexFunc(items, func(it item) bool { return it.shown == s })
	if i < 0 {
		return nil, errNotThere
	}
	child := &Node{id: n.id.child(s, items[i].salt())}
	if err := d.fill(ctx, right, child, items[i]); err != nil {
		return nil, err
	}
	if child.Broken() == nil {
		d.t.items.Put(key, child, d.s.MemSize()) // which it keeps in memory
	}
	return child, nil
}

// fill makes n the node of an item.
func (d *loaded) fill(ctx context.Context, right store.CanRead, n *Node, it item) error {
	base := d.t.ref.Base()
	n.attr = Attr{
		// A user that may read the chunks may read the files in them.
		Mode: unix.S_IFREG | 0o440, Nlink: 1, UID: base.UID, GID: base.GID,
		Size: it.file.Size, Blocks: blocks(it.file.Size),
		Mtime: Time{Sec: d.s.Name().Time().Unix()},
	}
	switch it.kind {
	case manifestItem:
		n.attr.Mode = unix.S_IFREG | 0o444
		n.setSize(int64(len(d.s.Manifest().Raw)))
		n.body = &decodedManifest{d.s}
		return nil
	case logItem:
		n.body = &clientLog{d.s}
		text, err := d.s.ReadClientLog(ctx, right)
		return n.sized(text, err)
	case blobItem:
		n.body = &blobFile{d.s, it.file}
		data, err := d.s.ReadBlob(ctx, right, it.file)
		return n.sized(data, err)
	case streamItem:
		return d.fillStream(ctx, right, n, it)
	case pxarItem:
		return d.fillArchive(ctx, right, n, it)
	case diskItem:
		d.fillDisk(n, it)
		return nil
	}
	return errNotThere
}

func (n *Node) setSize(size int64) {
	n.attr.Size, n.attr.Blocks = size, blocks(size)
}

// sized sets the size of n to that of its decoded content. If the content cannot be
// decoded, n keeps its size and is broken.
func (n *Node) sized(content []byte, err error) error {
	switch {
	case err == nil:
		n.setSize(int64(len(content)))
	case ofSnapshot(err):
		n.body = &broken{err}
	default:
		return err
	}
	return nil
}

func (d *loaded) fillStream(ctx context.Context, right store.CanRead, n *Node, it item) error {
	stream, err := d.s.Stream(it.file)
	if err != nil {
		n.body = &broken{err}
		return nil
	}
	allocated, err := stream.Allocated(ctx, right)
	switch {
	case err == nil:
		n.attr.Blocks, n.frozen, n.body = blocks(allocated), true, &streamFile{stream}
	case ofSnapshot(err):
		n.body = &broken{err}
	default:
		return err
	}
	return nil
}

func (d *loaded) fillArchive(ctx context.Context, right store.CanRead, n *Node, it item) error {
	a, err := d.s.Archive(ctx, right, it.file)
	if err == nil {
		err = fillRoot(ctx, right, n, a)
	}
	if err == nil || !ofSnapshot(err) {
		return err
	}
	n.attr.Mode = unix.S_IFDIR | 0o500
	n.body = &broken{err}
	return nil
}

// decodedManifest is the file index.json.
type decodedManifest struct{ s *store.Snapshot }

func (b *decodedManifest) open(context.Context, store.CanRead) (File, error) {
	return Bytes(b.s.Manifest().Raw), nil
}

// clientLog is the file client.log.
type clientLog struct{ s *store.Snapshot }

func (b *clientLog) open(ctx context.Context, right store.CanRead) (File, error) {
	text, err := b.s.ReadClientLog(ctx, right)
	return Bytes(text), err
}

// blobFile is a blob, decoded.
type blobFile struct {
	s *store.Snapshot
	f manifest.File
}

func (b *blobFile) open(ctx context.Context, right store.CanRead) (File, error) {
	data, err := b.s.ReadBlob(ctx, right, b.f)
	return Bytes(data), err
}

// streamFile is an image, or another index whose content is shown as it is.
type streamFile struct{ s *store.Stream }

func (b *streamFile) open(ctx context.Context, right store.CanRead) (File, error) {
	if err := b.s.Check(ctx, right); err != nil {
		return nil, err
	}
	if past, ok := b.s.Salvage(); ok {
		return past, nil
	}
	return b.s, nil
}

func (b *snapshot) snapshot() name.Snapshot        { return b.s }
func (b *decodedManifest) snapshot() name.Snapshot { return b.s.Name() }
func (b *clientLog) snapshot() name.Snapshot       { return b.s.Name() }
func (b *blobFile) snapshot() name.Snapshot        { return b.s.Name() }
func (b *streamFile) snapshot() name.Snapshot      { return b.s.Snapshot().Name() }
func (d *folder) snapshot() name.Snapshot          { return d.c.a.Snapshot().Name() }
func (b *payload) snapshot() name.Snapshot         { return b.c.a.Snapshot().Name() }
