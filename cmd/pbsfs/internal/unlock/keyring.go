package unlock

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

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store/keys"
)

// Keyring opens keys with the terminal and environment of this process and the files of
// its user.
type Keyring struct {
	Stdin  io.Reader
	Stderr io.Writer
	Getenv func(name string) string
	// ServerKeys is the directory of the keys that a server keeps for its sync jobs; ""
	// if we must not use them.
	ServerKeys string
}

// Options are the flags of every command that opens encrypted snapshots.
type Options struct {
	KeyFiles        []string
	MasterFiles     []string
	IgnoreSignature bool
}

// Register adds the flags to a command.
func (o *Options) Register(f *pflag.FlagSet) {
	f.StringArrayVar(&o.KeyFiles, "keyfile", nil, "key of encrypted snapshots: FILE[,password-file=FILE|,password-cmd=CMD]; may be repeated")
	f.StringArrayVar(&o.MasterFiles, "master-keyfile", nil, "RSA master key that recovers the keys of snapshots; may be repeated")
	f.BoolVar(&o.IgnoreSignature, "ignore-signature", false, "serve snapshots although the signature of their manifest is wrong")
}

// Secrets are opened keys in the form in which one process passes them to another.
type Secrets struct {
	Keys    [][32]byte `json:"keys"`
	Masters [][]byte   `json:"masters"` // PKCS#8
	// Offered are keys that no user named. They are only for snapshots that name them.
	Offered [][32]byte `json:"offered,omitempty"`
}

// Empty reports whether there is no key.
func (s *Secrets) Empty() bool {
	return len(s.Keys) == 0 && len(s.Masters) == 0 && len(s.Offered) == 0
}

// Open makes keys of the secrets.
func (s *Secrets) Open() ([]*keys.Key, []*keys.Master, error) {
	var masters []*keys.Master
	list, err := NewKeys(s.Keys)
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

// NewKeys makes keys of raw keys.
func NewKeys(raw [][32]byte) ([]*keys.Key, error) {
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

// Error says that a key could not be used: exit code 6.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

// NewError makes an Error of another error.
func NewError(err error) error { return &Error{err} }

// Errorf makes an Error of a text.
func Errorf(format string, args ...any) error { return &Error{fmt.Errorf(format, args...)} }

// Open opens all named keys, and also the official client's default key and those of a
// server if they can be opened. It is an error if a named key cannot be opened.
func (k *Keyring) Open(ctx context.Context, o Options) (*Secrets, error) {
	s := &Secrets{}
	pass := &Passphrases{Keyring: k, Name: KeyPassword}
	for _, spec := range o.KeyFiles {
		raw, err := k.OpenFile(ctx, spec, pass)
		if err != nil {
			return nil, err
		}
		s.Keys = append(s.Keys, raw)
	}
	masterPass := &Passphrases{Keyring: k, Name: MasterPassword}
	for _, file := range o.MasterFiles {
		m, err := k.OpenMaster(ctx, file, masterPass)
		if err != nil {
			return nil, err
		}
		der, err := m.DER()
		if err != nil {
			return nil, err
		}
		s.Masters = append(s.Masters, der)
	}
	for _, file := range k.DefaultFiles() {
		raw, err := k.OpenFile(ctx, file, pass)
		if err != nil {
			fmt.Fprintf(k.Stderr, "pbsfs: warning: the default key is not used: %v\n", err)
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

// The options that may follow the file in an argument of --keyfile.
const (
	specPasswordFile = ",password-file="
	specPasswordCmd  = ",password-cmd="
)

// parseKeySpec parses an argument of --keyfile. Each option ends the name of the file,
// and extends to the end of the argument.
func parseKeySpec(s string) (keySpec, error) {
	k := keySpec{file: s}
	asked := false
	if file, cmd, ok := strings.Cut(s, specPasswordCmd); ok {
		k, asked = keySpec{file: file, passwordCmd: cmd}, true
	}
	if file, path, ok := strings.Cut(k.file, specPasswordFile); ok {
		if asked {
			return keySpec{}, usage.Errorf("--keyfile %q: name a password file or a password command, not both", s)
		}
		k, asked = keySpec{file: file, passwordFile: path}, true
	}
	switch {
	case k.file == "":
		return keySpec{}, usage.Errorf("--keyfile %q names no file", s)
	case asked && k.passwordFile == "" && k.passwordCmd == "":
		return keySpec{}, usage.Errorf("--keyfile %q does not say where the password is", s)
	}
	return k, nil
}

// OpenFile opens the key of one --keyfile.
func (k *Keyring) OpenFile(ctx context.Context, spec string, pass *Passphrases) ([32]byte, error) {
	named, err := parseKeySpec(spec)
	if err != nil {
		return [32]byte{}, err
	}
	if err := GuardMemory(); err != nil {
		return [32]byte{}, err
	}
	f, err := k.ReadFile(named.file)
	if err != nil {
		return [32]byte{}, err
	}
	raw, err := openWith(ctx, f, named, pass)
	if err != nil {
		return [32]byte{}, Errorf("key file %s: %w", named.file, err)
	}
	return raw, nil
}

// ReadFile reads a key file. It warns if users other than the owner can read the file.
func (k *Keyring) ReadFile(path string) (*keys.File, error) {
	text, err := readLimited(path, keys.MaxFile)
	if err != nil {
		return nil, Errorf("key file: %w", err)
	}
	k.warnReadable(path)
	f, err := keys.ParseFile(text)
	if err != nil {
		return nil, Errorf("%s: %w", path, err)
	}
	return f, nil
}

// warnReadable warns if users other than the owner can read a file with a secret.
func (k *Keyring) warnReadable(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(k.Stderr, "pbsfs: warning: %s can be read by others (mode %04o)\n", path, info.Mode().Perm())
	}
}

// openWith opens a key file: with the passphrase that was named along with it, else
// with the one in the environment, else with one from the terminal.
func openWith(ctx context.Context, f *keys.File, k keySpec, pass *Passphrases) ([32]byte, error) {
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

// passphrase reads the passphrase that was named along with a key.
func (k keySpec) passphrase(ctx context.Context) ([]byte, error) {
	if k.passwordCmd != "" {
		return fromCommand(ctx, k.passwordCmd)
	}
	return fromFile(k.passwordFile)
}

// OpenMaster opens the private half of a master key.
func (k *Keyring) OpenMaster(ctx context.Context, path string, pass *Passphrases) (*keys.Master, error) {
	if err := GuardMemory(); err != nil {
		return nil, err
	}
	text, err := readLimited(path, keys.MaxFile)
	if err != nil {
		return nil, Errorf("master key: %w", err)
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
		return nil, Errorf("%s: %w", path, err)
	}
	return m, nil
}

// DefaultFiles returns the official client's default key, if there is one.
func (k *Keyring) DefaultFiles() []string {
	home := k.Getenv("XDG_CONFIG_HOME")
	if home == "" {
		if dir, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(dir, ".config")
		}
	}
	dirs := k.Getenv("XDG_CONFIG_DIRS")
	if dirs == "" {
		dirs = "/etc/xdg"
	}
	for _, dir := range append([]string{home}, filepath.SplitList(dirs)...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, "proxmox-backup", "encryption-key.json")
		if _, err := reach.Resolve(context.Background(), file); err == nil {
			return []string{file}
		}
	}
	return nil
}

// Write passes the keys to another process.
func (s *Secrets) Write(f *os.File) error {
	return errors.Join(json.NewEncoder(f).Encode(s), f.Close())
}

// ReadSecrets reads keys that another process has opened.
func ReadSecrets(f *os.File) (*Secrets, error) {
	defer f.Close()
	s := &Secrets{}
	if err := json.NewDecoder(f).Decode(s); err != nil {
		return nil, fmt.Errorf("taking over the keys: %w", err)
	}
	return s, nil
}
