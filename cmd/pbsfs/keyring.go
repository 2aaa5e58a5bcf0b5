package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/store/keys"
)

// keyring opens keys with what the process that was started has: its terminal, its
// environment, the files of its user.
type keyring struct {
	stdin  io.Reader
	stderr io.Writer
	getenv func(name string) string
	// serverKeys is the directory of keys that a server keeps for its sync jobs;
	// "" where they are not for us.
	serverKeys string
}

// keyOptions are the flags of every command that opens encrypted snapshots.
type keyOptions struct {
	keyFiles        []string
	masterFiles     []string
	ignoreSignature bool
}

func (o *keyOptions) register(f *pflag.FlagSet) {
	f.StringArrayVar(&o.keyFiles, "keyfile", nil, "key of encrypted snapshots: FILE[,password-file=FILE|,password-cmd=CMD]; may be repeated")
	f.StringArrayVar(&o.masterFiles, "master-keyfile", nil, "RSA master key that recovers the keys of snapshots; may be repeated")
	f.BoolVar(&o.ignoreSignature, "ignore-signature", false, "serve snapshots although the signature of their manifest is wrong")
}

// secrets are opened keys, as one process hands them to another.
type secrets struct {
	Keys    [][32]byte `json:"keys"`
	Masters [][]byte   `json:"masters"` // PKCS#8
	// Offered were named by nobody: they are for snapshots that name them.
	Offered [][32]byte `json:"offered,omitempty"`
}

// empty reports whether there is no key.
func (s *secrets) empty() bool {
	return len(s.Keys) == 0 && len(s.Masters) == 0 && len(s.Offered) == 0
}

// open makes keys of what was handed over.
func (s *secrets) open() ([]*keys.Key, []*keys.Master, error) {
	var masters []*keys.Master
	list, err := newKeys(s.Keys)
	if err != nil {
		return nil, nil, err
	}
	for _, der := range s.Masters {
		m, err := keys.ParseMasterDER(der)
		if err != nil {
			return nil, nil, err
		}
		masters = append(masters, m)
	}
	return list, masters, nil
}

// newKeys makes keys of raw ones.
func newKeys(raw [][32]byte) ([]*keys.Key, error) {
	var list []*keys.Key
	for _, r := range raw {
		k, err := keys.New(r)
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	return list, nil
}

// keyError is trouble with a key: exit code 6.
type keyError struct{ err error }

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

func keyErrorf(format string, args ...any) error { return &keyError{fmt.Errorf(format, args...)} }

// open opens all keys that were named, and the official client's default
// key and those of a server if they can be opened. What was named must open.
func (k *keyring) open(ctx context.Context, o keyOptions) (*secrets, error) {
	s := &secrets{}
	pass := &passphrases{keyring: k, name: keyPassword}
	for _, spec := range o.keyFiles {
		raw, err := k.openFile(ctx, spec, pass)
		if err != nil {
			return nil, err
		}
		s.Keys = append(s.Keys, raw)
	}
	masterPass := &passphrases{keyring: k, name: masterPassword}
	for _, file := range o.masterFiles {
		m, err := k.openMaster(ctx, file, masterPass)
		if err != nil {
			return nil, err
		}
		der, err := m.DER()
		if err != nil {
			return nil, err
		}
		s.Masters = append(s.Masters, der)
	}
	for _, file := range k.defaultFiles() {
		raw, err := k.openFile(ctx, file, pass)
		if err != nil {
			fmt.Fprintf(k.stderr, "pbsfs: warning: the default key is not used: %v\n", err)
			continue
		}
		s.Keys = append(s.Keys, raw)
	}
	s.Offered = k.openOffered()
	return s, nil
}

// keySpec is an argument of --keyfile.
type keySpec struct {
	file         string
	passwordFile string
	passwordCmd  string
}

// What may follow the file in an argument of --keyfile.
const (
	specPasswordFile = ",password-file="
	specPasswordCmd  = ",password-cmd="
)

// parseKeySpec reads an argument of --keyfile. Both options end the name of the
// file, and reach to the end of the argument.
func parseKeySpec(s string) (keySpec, error) {
	k := keySpec{file: s}
	asked := false
	if file, cmd, ok := strings.Cut(s, specPasswordCmd); ok {
		k, asked = keySpec{file: file, passwordCmd: cmd}, true
	}
	if file, path, ok := strings.Cut(k.file, specPasswordFile); ok {
		if asked {
			return keySpec{}, usagef("--keyfile %q: name a password file or a password command, not both", s)
		}
		k, asked = keySpec{file: file, passwordFile: path}, true
	}
	switch {
	case k.file == "":
		return keySpec{}, usagef("--keyfile %q names no file", s)
	case asked && k.passwordFile == "" && k.passwordCmd == "":
		return keySpec{}, usagef("--keyfile %q does not say where the password is", s)
	}
	return k, nil
}

// openFile opens the key of one --keyfile.
func (k *keyring) openFile(ctx context.Context, spec string, pass *passphrases) ([32]byte, error) {
	named, err := parseKeySpec(spec)
	if err != nil {
		return [32]byte{}, err
	}
	if err := guardMemory(); err != nil {
		return [32]byte{}, err
	}
	f, err := k.readFile(named.file)
	if err != nil {
		return [32]byte{}, err
	}
	raw, err := openWith(ctx, f, named, pass)
	if err != nil {
		return [32]byte{}, keyErrorf("key file %s: %w", named.file, err)
	}
	return raw, nil
}

// readFile reads a key file, and warns when others can read it too.
func (k *keyring) readFile(path string) (*keys.File, error) {
	text, err := readLimited(path, keys.MaxFile)
	if err != nil {
		return nil, keyErrorf("key file: %w", err)
	}
	k.warnReadable(path)
	f, err := keys.ParseFile(text)
	if err != nil {
		return nil, keyErrorf("%s: %w", path, err)
	}
	return f, nil
}

// warnReadable warns when others than its owner can read a file with a secret.
func (k *keyring) warnReadable(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(k.stderr, "pbsfs: warning: %s can be read by others (mode %04o)\n", path, info.Mode().Perm())
	}
}

// openWith opens a key file: with what was named along with it, else with the
// passphrase in the environment, else with one from the terminal.
func openWith(ctx context.Context, f *keys.File, k keySpec, pass *passphrases) ([32]byte, error) {
	if !f.NeedsPassphrase() {
		return f.Open(nil)
	}
	if k.passwordFile != "" || k.passwordCmd != "" {
		value, err := k.passphrase(ctx)
		if err != nil {
			return [32]byte{}, err
		}
		return f.Open(value)
	}
	var raw [32]byte
	err := pass.try(ctx, k.file, func(passphrase []byte) (err error) {
		raw, err = f.Open(passphrase)
		return err
	})
	return raw, err
}

// passphrase gets the passphrase that was named along with a key.
func (k keySpec) passphrase(ctx context.Context) ([]byte, error) {
	if k.passwordCmd != "" {
		return fromCommand(ctx, k.passwordCmd)
	}
	return fromFile(k.passwordFile)
}

// openMaster opens the private half of a master key.
func (k *keyring) openMaster(ctx context.Context, path string, pass *passphrases) (*keys.Master, error) {
	if err := guardMemory(); err != nil {
		return nil, err
	}
	text, err := readLimited(path, keys.MaxFile)
	if err != nil {
		return nil, keyErrorf("master key: %w", err)
	}
	k.warnReadable(path)
	var m *keys.Master
	open := func(passphrase []byte) (err error) {
		m, err = keys.ParseMaster(text, passphrase)
		return err
	}
	if keys.MasterNeedsPassphrase(text) {
		err = pass.try(ctx, path, open)
	} else {
		err = open(nil)
	}
	if err != nil {
		return nil, keyErrorf("%s: %w", path, err)
	}
	return m, nil
}

// defaultFiles returns the official client's default key, if there is one.
func (k *keyring) defaultFiles() []string {
	home := k.getenv("XDG_CONFIG_HOME")
	if home == "" {
		if dir, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(dir, ".config")
		}
	}
	dirs := k.getenv("XDG_CONFIG_DIRS")
	if dirs == "" {
		dirs = "/etc/xdg"
	}
	for _, dir := range append([]string{home}, filepath.SplitList(dirs)...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, "proxmox-backup", "encryption-key.json")
		if _, err := os.Stat(file); err == nil {
			return []string{file}
		}
	}
	return nil
}

// write hands the keys to another process.
func (s *secrets) write(f *os.File) error {
	return errors.Join(json.NewEncoder(f).Encode(s), f.Close())
}

// readSecrets takes over keys that another process has opened.
func readSecrets(f *os.File) (*secrets, error) {
	defer f.Close()
	s := &secrets{}
	if err := json.NewDecoder(f).Decode(s); err != nil {
		return nil, fmt.Errorf("taking over the keys: %w", err)
	}
	return s, nil
}
