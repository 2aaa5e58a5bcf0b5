package token

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pbsfs/pbsfs/maint/statefile"
)

var (
	// ErrExposed says that other users can read or write the token file.
	ErrExposed = errors.New("other users can read or write it")
	// ErrExists says that there is a token with that ID.
	ErrExists = errors.New("it exists already")
	// ErrUnknown says that there is no token with that ID.
	ErrUnknown = errors.New("no such token")
)

// maxFile bounds the token file in bytes: several thousand tokens.
const maxFile = 1 << 20

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// Add makes a token and returns it with its secret, which is stored nowhere. name is an
// ID or a bare NAME. The file and its directory are made if they do not exist.
func Add(path, name string, role Role) (Credential, error) {
	id, err := ParseName(name)
	if err != nil {
		return Credential{}, err
	}
	if !role.May(Audit) {
		return Credential{}, fmt.Errorf("token %s: give it the role audit, read or admin", id)
	}
	if err := statefile.MakeDir(filepath.Dir(path), statefile.Owner{}, dirMode); err != nil {
		return Credential{}, fmt.Errorf("token file %s: %w", path, err)
	}
	var made Credential
	err = change(path, func(c *content) error {
		if c.find(id) != nil {
			return fmt.Errorf("token %s: %w; remove it first, or choose another name", id, ErrExists)
		}
		var e entry
		e, made = newEntry(id, role)
		c.Tokens = append(c.Tokens, e)
		return nil
	})
	if err != nil {
		return Credential{}, err
	}
	return made, nil
}

// Remove ends a token. name is an ID or a bare NAME.
func Remove(path, name string) error {
	id, err := ParseName(name)
	if err != nil {
		return err
	}
	if _, err := load(path); err != nil { // before a lock file appears for nothing
		return err
	}
	return change(path, func(c *content) error {
		rest := slices.DeleteFunc(slices.Clone(c.Tokens), func(e entry) bool { return e.ID == id })
		if len(rest) == len(c.Tokens) {
			return fmt.Errorf("token %s in %s: %w", id, path, ErrUnknown)
		}
		c.Tokens = rest
		return nil
	})
}

// List returns all tokens, in the order in which they were added.
func List(path string) ([]Token, error) {
	s, err := load(path)
	if err != nil {
		return nil, err
	}
	var list []Token
	for i := range s.Tokens {
		list = append(list, s.Tokens[i].token())
	}
	return list, nil
}

// change replaces the file by what fn makes of it, under its lock.
func change(path string, fn func(*content) error) error {
	l, err := statefile.LockFile(context.Background(), path+".lck", statefile.Owner{}, fileMode)
	if err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	defer l.Unlock()
	s, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = &state{}, nil
	}
	if err == nil {
		err = fn(&s.content)
	}
	if err != nil {
		return err
	}
	text, err := s.text()
	if err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("token file %s would be larger than %d bytes: remove tokens that nobody uses", path, maxFile)
	}
	return statefile.ReplaceFile(path, text, statefile.Owner{}, fileMode)
}

// state is the token file as it was at one time.
type state struct {
	content
	stamp statefile.Stamp
	// settled says that a later change must show in the stamp.
	settled bool
}

// load reads the token file, if nobody else can.
func load(path string) (*state, error) {
	s, err := loadUnnamed(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("token file %s: %w; add a token first", path, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return s, nil
}

func loadUnnamed(path string) (*state, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	now := time.Now() // before the first look, so that what happens meanwhile counts as later
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if err := checkAccess(path, info); err != nil {
		return nil, err
	}
	s := &state{}
	if s.stamp, err = statefile.FileStamp(f); err != nil {
		return nil, withoutPath(err)
	}
	s.settled = s.stamp.Settled(now)
	text, err := statefile.ReadOpen(f, maxFile)
	if err != nil {
		return nil, err
	}
	if s.content, err = parse(text); err != nil {
		return nil, fmt.Errorf("it cannot be used; restore it, or remove it and add tokens anew: %w", err)
	}
	return s, nil
}

// withoutPath takes the path from an error that will be told together with the path.
func withoutPath(err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) {
		return err
	}
	if errors.Is(p.Err, syscall.ELOOP) {
		return errors.New("it is a symbolic link; name the file itself")
	}
	return p.Err
}

// checkAccess checks that the file is ours alone. Permissions that an ACL gives show in
// the bits of the group.
func checkAccess(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if uid := statefile.StatOwner(info).UID; uid != os.Geteuid() && uid != 0 {
		return fmt.Errorf("%w: it belongs to user %d; run as that user, or chown it", ErrExposed, uid)
	}
	if perm := info.Mode().Perm(); perm&0o066 != 0 {
		return fmt.Errorf("%w (mode %04o); run chmod 600 %s, and replace tokens that others may have changed", ErrExposed, perm, path)
	}
	return nil
}
