package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/blob"
	"github.com/pbsfs/pbsfs/store/catalog"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/source"
)

// sourceText matches a SOURCE in the form of the official client: the name of an
// archive, and the path that it is made from.
var sourceText = regexp.MustCompile(`^([A-Za-z0-9_-]+)\.(pxar|img|conf|log):(.+)$`)

// snapshotSource is one open SOURCE. Exactly one of the last three fields is set.
type snapshotSource struct {
	stem  string // root.pxar
	path  string
	files []name.File // the stored files: one, or the two halves of a split archive

	tree  *source.Tree
	image *source.Image
	data  []byte // the contents of a file that is stored in one piece
}

type snapshotSources []*snapshotSource

// openSources opens all sources before anything is written.
func openSources(ctx context.Context, args []string, o snapshotOptions) (_ snapshotSources, err error) {
	var out snapshotSources
	defer func() {
		if err != nil {
			out.close()
		}
	}()
	for _, arg := range args {
		m := sourceText.FindStringSubmatch(arg)
		if m == nil {
			return nil, usage.Errorf("SOURCE %q: want NAME.pxar:DIR, NAME.img:FILE, NAME.conf:FILE or NAME.log:FILE, and NAME of letters, digits, - and _", arg)
		}
		s := &snapshotSource{stem: m[1] + "." + m[2], path: m[3]}
		for _, other := range out {
			if other.stem == s.stem {
				return nil, usage.Errorf("SOURCE %q: there is another %s", arg, s.stem)
			}
		}
		if s.stem == name.ClientLog.Stem() {
			return nil, usage.Errorf("SOURCE %q: that name is for the log of this command", arg)
		}
		if s.files, err = name.FilesOf(s.stem, o.format == formatSplit); err != nil {
			return nil, usage.Errorf("SOURCE %q: %w", arg, err)
		}
		if err := s.open(ctx, m[2]); err != nil {
			return nil, fmt.Errorf("%s: %w", s.stem, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (s *snapshotSource) open(ctx context.Context, kind string) (err error) {
	if err := reach.Answers(ctx, s.path); err != nil {
		return err
	}
	switch kind {
	case "pxar":
		s.tree, err = source.Open(s.path)
	case "img":
		s.image, err = source.OpenImage(ctx, s.path)
	default:
		s.data, err = readSmall(ctx, s.path)
	}
	return err
}

// readSmall reads a file that is to be stored in one piece.
func readSmall(ctx context.Context, path string) ([]byte, error) {
	f, err := source.OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, blob.MaxSize+1))
	if err == nil && len(data) > blob.MaxSize {
		err = fmt.Errorf("%s: longer than %d MiB; store its directory as NAME.pxar", path, blob.MaxSize>>20)
	}
	return data, err
}

func (l snapshotSources) close() {
	for _, s := range l {
		if s.tree != nil {
			_ = s.tree.Close()
		}
		if s.image != nil {
			_ = s.image.Close()
		}
	}
}

// outside returns an error for a directory that lies in the datastore: it would grow
// while it is read.
func (l snapshotSources) outside(ctx context.Context, datastore string) error {
	in, err := reach.Resolve(ctx, datastore)
	if err != nil {
		return err
	}
	for _, s := range l {
		if s.tree == nil {
			continue
		}
		at, err := reach.Resolve(ctx, s.path)
		if err != nil {
			return fmt.Errorf("%s: %w", s.stem, err)
		}
		if at.Path == in.Path || strings.HasPrefix(at.Path, in.Path+"/") {
			return fmt.Errorf("%s: %s lies in the datastore that it is to be written to", s.stem, s.path)
		}
	}
	return nil
}

// needCatalog reports whether a catalog is written. A catalog lists the archives that
// are in one stream; split archives need none.
func (l snapshotSources) needCatalog(o snapshotOptions) bool {
	for _, s := range l {
		if s.tree != nil && o.format == formatPxar {
			return true
		}
	}
	return false
}

// filler writes the contents of a snapshot.
type filler struct {
	s     *store.SnapshotWriter
	o     snapshotOptions
	into  string // the directory of the datastore
	show  *progress
	begun time.Time
	log   strings.Builder
	warn  int
	// missing counts the files that exist but could not be stored whole.
	missing int

	catalog *catalog.Encoder // nil if no catalog is written
}

// fillSnapshot writes all sources to the datastore in the directory into. It finishes
// the snapshot, or removes it after an error.
func (a *app) fillSnapshot(ctx context.Context, s *store.SnapshotWriter, sources snapshotSources, o snapshotOptions, into string) error {
	f := &filler{s: s, o: o, into: into, show: newProgress(a.stderr), begun: time.Now()}
	f.note("writing %s", s.Name())
	if err := f.fill(ctx, sources); err != nil {
		f.show.end("")
		return errors.Join(err, s.Abort())
	}
	f.note("%s", f.total())
	if err := s.Log([]byte(f.log.String())); err != nil {
		return errors.Join(err, s.Abort())
	}
	at := s.Name()
	if err := s.Finish(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.out(), at)
	return errors.Join(err, f.incomplete())
}

// incomplete returns an error if the snapshot lacks files that exist: the exit code is
// all that is seen of a job that runs unattended.
func (f *filler) incomplete() error {
	switch f.missing {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("snapshot %s was written, but 1 thing is missing in it; the warning names it", f.s.Name())
	}
	return fmt.Errorf("snapshot %s was written, but %d things are missing in it; the warnings name them", f.s.Name(), f.missing)
}

// total returns a line that says how much the snapshot has added.
func (f *filler) total() string {
	w := f.s.Written()
	text := fmt.Sprintf("%s in %d chunks, %d of them new", sizeText(int64(w.Bytes)), w.Chunks, w.New)
	if took := time.Since(f.begun); took >= time.Second {
		text += fmt.Sprintf(", in %s", took.Round(100*time.Millisecond))
	}
	switch f.warn {
	case 0:
	case 1:
		text += "; 1 warning"
	default:
		text += fmt.Sprintf("; %d warnings", f.warn)
	}
	return text
}

func (f *filler) fill(ctx context.Context, sources snapshotSources) error {
	if sources.needCatalog(f.o) {
		w, err := f.s.Stream(ctx, name.Catalog)
		if err != nil {
			return err
		}
		f.catalog = catalog.NewEncoder(w)
		defer func() { f.catalog = nil }()
		if err := f.each(ctx, sources); err != nil {
			return err
		}
		return errors.Join(f.catalog.Close(), w.Close())
	}
	return f.each(ctx, sources)
}

func (f *filler) each(ctx context.Context, sources snapshotSources) error {
	for _, s := range sources {
		var err error
		switch {
		case s.tree != nil:
			err = f.tree(ctx, s)
		case s.image != nil:
			err = f.image(ctx, s)
		default:
			err = f.blob(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// note shows a line and keeps it for the log of the snapshot.
func (f *filler) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	f.show.line(line)
	fmt.Fprintf(&f.log, "%s %s\n", time.Now().UTC().Format(time.RFC3339), line)
}

// warning reports a file that is not stored as it should be.
func (f *filler) warning(format string, args ...any) {
	f.warn++
	f.note("warning: "+format, args...)
}

// tree stores a directory.
func (f *filler) tree(ctx context.Context, s *snapshotSource) error {
	opts := source.Options{
		AllFileSystems: f.o.allFileSystems,
		Empty:          map[string]string{f.into: "it is the datastore that is written to"},
		Warn: func(path string, err error) {
			if errors.Is(err, source.ErrIncomplete) {
				f.missing++
			}
			f.warning("%s: %s: %v", s.stem, text.Path(path), err)
		},
		Progress: f.show.add,
	}
	total := int64(-1)
	if f.show.needsTotal() {
		var err error
		if _, total, err = s.tree.Total(ctx, opts); err != nil {
			return err
		}
	}
	f.show.begin(s.stem, total)
	var err error
	if len(s.files) > 1 {
		err = f.split(ctx, s, opts)
	} else {
		err = f.unified(ctx, s, opts)
	}
	if err != nil {
		return err
	}
	f.note("%s", f.show.end(s.path))
	return nil
}

// unified stores a directory as an archive in one stream.
func (f *filler) unified(ctx context.Context, s *snapshotSource, opts source.Options) error {
	w, err := f.s.Stream(ctx, s.files[0])
	if err != nil {
		return err
	}
	if err := s.tree.Unified(ctx, w, f.catalog, s.files[0].String(), opts); err != nil {
		return err
	}
	return w.Close()
}

// split stores a directory as an archive in two streams.
func (f *filler) split(ctx context.Context, s *snapshotSource, opts source.Options) error {
	var streams [2]*store.StreamWriter
	for i := range streams {
		var err error
		if streams[i], err = f.s.Stream(ctx, s.files[i]); err != nil {
			return err
		}
	}
	if err := s.tree.Split(ctx, streams[0], streams[1], opts); err != nil {
		return err
	}
	// In the order in which the official client lists them.
	return errors.Join(streams[1].Close(), streams[0].Close())
}

// image stores a disk image.
func (f *filler) image(ctx context.Context, s *snapshotSource) error {
	f.show.begin(s.stem, s.image.Size())
	cut, err := f.s.Image(ctx, s.files[0], s.image, s.image.Size(), func(n int64) { f.show.add(0, n) })
	if err != nil {
		return err
	}
	if cut >= 0 {
		f.warning("%s: %s: shrank to %d bytes while it was read; zeros are stored for the rest", s.stem, s.path, cut)
	}
	f.note("%s", f.show.end(s.path))
	return nil
}

// blob stores a file in one piece.
func (f *filler) blob(s *snapshotSource) error {
	if err := f.s.Blob(s.files[0], s.data); err != nil {
		return err
	}
	f.note("%s: %s, %s", s.stem, s.path, sizeText(int64(len(s.data))))
	return nil
}
