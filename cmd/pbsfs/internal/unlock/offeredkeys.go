package unlock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store/keys"
)

// OfferedFiles returns the files of the keys that a server keeps for its sync jobs
// beside its configuration (reference "encryption-keys", section 5). Only root may use
// them.
func (k *Keyring) OfferedFiles() ([]string, error) {
	if k.ServerKeys == "" {
		return nil, nil
	}
	list, err := filepath.Glob(filepath.Join(k.ServerKeys, "*.enc"))
	if err != nil { // the pattern is malformed
		return nil, fmt.Errorf("keys of the server: %w", err)
	}
	return list, nil
}

// openOffered opens those of the server's keys that need no passphrase. The user did
// not name them, so it does not ask for one.
func (k *Keyring) openOffered() (list [][32]byte) {
	files, err := k.OfferedFiles()
	if err != nil {
		fmt.Fprintf(k.Stderr, "pbsfs: warning: %v\n", err)
	}
	for _, path := range files {
		raw, err := openOfferedKey(path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errPassphrase):
		case err != nil:
			fmt.Fprintf(k.Stderr, "pbsfs: warning: a key of the server is not used: %s: %v\n", path, err)
		default:
			list = append(list, raw)
		}
	}
	return list
}

var errNoFile = errors.New("not a regular file")

var errPassphrase = errors.New("needs a passphrase")

func openOfferedKey(path string) (raw [32]byte, err error) {
	// A key that a user names may be a pipe. No program would write into a pipe that
	// lies here.
	if err := reach.Answers(context.Background(), path); err != nil {
		return raw, err
	}
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return raw, cmp.Or(err, errNoFile)
	}
	text, err := readLimited(path, keys.MaxFile)
	if err != nil {
		return raw, err
	}
	f, err := keys.ParseFile(text)
	if err != nil {
		return raw, err
	}
	if f.NeedsPassphrase() {
		return raw, errPassphrase
	}
	if err := GuardMemory(); err != nil {
		return raw, err
	}
	return f.Open(nil)
}
