package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/manifest"
	"github.com/pbsfs/pbsfs/store/name"
)

// maxOwner bounds the size of the file with a group's owner.
const maxOwner = 4096

// own makes sure that the group has an owner, and that it is the requested one if there
// is a request.
func (s *SnapshotWriter) own(ctx context.Context, g name.Group) error {
	file := g.Dir() + "/owner"
	text, _, err := s.disk.ReadFile(ctx, file, maxOwner, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		owner := s.opts.Owner
		if owner == "" {
			owner = DefaultOwner
		}
		return s.writeFile(file, []byte(owner+"\n"))
	case err != nil:
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if owner := strings.TrimSpace(first); s.opts.Owner != "" && owner != s.opts.Owner {
		return fmt.Errorf("%w: %s, not %s", ErrOwner, owner, s.opts.Owner)
	}
	return nil
}

// Blob adds a file that is stored in one piece, at most [blob.MaxSize] bytes.
func (s *SnapshotWriter) Blob(f name.File, data []byte) error {
	raw, err := s.enc.Encode(nil, data)
	if err == nil {
		err = s.writeFile(s.file(f), raw)
	}
	if err != nil {
		return s.at(f, err)
	}
	s.add(f, int64(len(raw)), sha256.Sum256(raw))
	return nil
}

// Log stores the log of the program that makes the backup. The manifest does not list
// it.
func (s *SnapshotWriter) Log(text []byte) error {
	raw, err := s.enc.Encode(nil, text)
	if err == nil {
		err = s.writeFile(s.file(name.ClientLog), raw)
	}
	return s.at(name.ClientLog, err)
}

// errUnfinished says that a stream was not closed.
var errUnfinished = errors.New("not complete")

// Finish writes the manifest, which makes the snapshot appear, after everything else is
// on stable storage, and ends the writer. If it fails there is no snapshot, as after
// Abort.
func (s *SnapshotWriter) Finish(ctx context.Context) error {
	err := s.finish(ctx)
	if err != nil {
		return errors.Join(err, s.Abort())
	}
	s.end()
	return nil
}

func (s *SnapshotWriter) finish(ctx context.Context) error {
	if s.ended {
		return ErrReleased
	}
	s.mu.Lock()
	for w := range s.streams {
		s.mu.Unlock()
		return s.at(w.file, errUnfinished)
	}
	s.mu.Unlock()
	if s.opts.Protected {
		if err := s.writeFile(path.Join(s.name.Dir(), ".protected"), nil); err != nil {
			return s.at(name.File{}, err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	text, err := s.draft().Encode()
	if err != nil {
		return s.at(name.Manifest, err)
	}
	if err := s.disk.Sync(); err != nil {
		return s.at(name.Manifest, err)
	}
	return s.at(name.Manifest, s.writeFile(s.file(name.Manifest), text))
}

// draft returns the manifest.
func (s *SnapshotWriter) draft() *manifest.Draft {
	c := s.sink.Counts()
	return &manifest.Draft{
		Snapshot: s.name, Files: s.files, Key: s.opts.Key, Notes: s.opts.Notes,
		Stats: &manifest.UploadStats{Count: c.Chunks, Size: c.Bytes, CompressedSize: c.Stored, Duplicates: c.Known},
	}
}

// Written says how much was written for a snapshot so far.
type Written struct {
	Chunks, Bytes uint64 // all chunks, and the bytes of their data
	New           uint64 // chunks that the datastore did not have before
}

// Written returns how much was written so far. It may be called at any time.
func (s *SnapshotWriter) Written() Written {
	c := s.sink.Counts()
	return Written{Chunks: c.Chunks, Bytes: c.Bytes, New: c.Chunks - c.Known}
}

// Abort ends the writer and removes what the writer has made, except chunks, which a
// later snapshot can use. After Finish or Abort it does nothing.
func (s *SnapshotWriter) Abort() error {
	if s.ended {
		return nil
	}
	s.mu.Lock()
	streams := s.streams
	s.streams = nil
	s.mu.Unlock()
	for w := range streams {
		w.abort(ErrReleased)
	}
	return s.undo()
}

// undo removes what the writer has made. A directory that is not empty is in use by
// another program by now.
func (s *SnapshotWriter) undo() error {
	var errs []error
	for _, m := range slices.Backward(s.made) {
		err := s.disk.Remove(m.name, m.dir)
		if err != nil && !m.dir && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.end()
	return errors.Join(errs...)
}

// end releases the locks and the right.
func (s *SnapshotWriter) end() {
	s.ended = true
	for _, l := range slices.Backward(s.locks) {
		l.Release()
	}
	s.locks = nil
	s.right.Release()
}
