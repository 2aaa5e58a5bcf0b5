package token

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/pbsfs/pbsfs/maint/statefile"
)

// ErrWrong says that a credential is not valid, be it the ID or the secret.
var ErrWrong = errors.New("token or secret is wrong")

// File is the token file of a running server. It is safe for concurrent use.
type File struct {
	path string
	// dummy is compared with when an ID does not exist.
	dummy entry
	// seen is the file as it was last read. It is used only by calls that find the
	// file unchanged, so it does not matter which of two readers stores last.
	seen atomic.Pointer[state]
}

// Open reads the token file at path.
func Open(path string) (*File, error) {
	f := &File{path: path, dummy: entry{Salt: make([]byte, saltSize), Hash: make([]byte, sha256.Size)}}
	rand.Read(f.dummy.Salt)
	rand.Read(f.dummy.Hash)
	if _, err := f.now(); err != nil {
		return nil, err
	}
	return f, nil
}

// now returns the present content of the file.
func (f *File) now() (*content, error) {
	stamp, err := statefile.StampOf(f.path)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	if s := f.seen.Load(); s != nil && s.settled && s.stamp == stamp {
		return &s.content, nil
	}
	s, err := load(f.path)
	if err != nil {
		f.seen.Store(nil) // so that an error is never followed by an old token
		return nil, err
	}
	f.seen.Store(s)
	return &s.content, nil
}

// Check returns the token of a credential. It answers [ErrWrong] for a wrong ID and a
// wrong secret alike, and takes the same time. Any other error means that no token is
// valid, because of the file.
func (f *File) Check(c Credential) (Token, error) {
	all, err := f.now()
	if err != nil {
		return Token{}, err
	}
	e := &f.dummy
	known := false
	for i := range all.Tokens { // all of them: the position does not show either
		if all.Tokens[i].ID == c.ID {
			e, known = &all.Tokens[i], true
		}
	}
	if right := e.has(c.Secret); !right || !known {
		return Token{}, ErrWrong
	}
	return e.token(), nil
}

// Find returns the present state of a token that was checked before, [ErrUnknown] if it
// was removed. A token that was removed and added again has another time of creation: a
// session must compare it.
func (f *File) Find(id ID) (Token, error) {
	all, err := f.now()
	if err != nil {
		return Token{}, err
	}
	e := all.find(id)
	if e == nil {
		return Token{}, fmt.Errorf("token %s: %w", id, ErrUnknown)
	}
	return e.token(), nil
}
