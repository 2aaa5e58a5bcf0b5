package unlock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kballard/go-shellquote"
	"golang.org/x/term"

	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store/keys"
)

// A passphrase comes from a file or a program that was named with the key, from the
// environment, or from a terminal. It never comes from an argument, which every user
// can see.

const (
	// KeyPassword is the official client's variable for the passphrase of data keys;
	// MasterPassword is the variable for that of master keys.
	KeyPassword    = "PBS_ENCRYPTION_PASSWORD"
	MasterPassword = "PBSFS_MASTER_KEY_PASSWORD"
	// keyCredential is systemd's name for the passphrase of data keys.
	keyCredential = "proxmox-backup-client.encryption-password"
)

// maxPassphrase bounds how many bytes are read as a passphrase.
const maxPassphrase = 64 << 10

// errNoPassphrase says that there is no terminal to ask on.
var errNoPassphrase = errors.New("needs a passphrase, and there is no terminal to ask on")

// Passphrases finds passphrases. It reads the environment once.
type Passphrases struct {
	Keyring *Keyring
	Name    string // of the variable
	looked  bool
	value   []byte
	set     bool
	err     error
}

// fromEnv returns the passphrase in the environment, and whether there is one. The
// first variable that is set counts. The variables hold, in this order, the passphrase
// itself, a descriptor, a file or a program.
func (p *Passphrases) fromEnv(ctx context.Context) ([]byte, bool, error) {
	if !p.looked {
		p.looked = true
		p.value, p.set, p.err = p.look(ctx)
	}
	return p.value, p.set, p.err
}

func (p *Passphrases) look(ctx context.Context) ([]byte, bool, error) {
	if v, ok := os.LookupEnv(p.Name); ok {
		return firstLine([]byte(v)), true, nil
	}
	if v, ok := os.LookupEnv(p.Name + "_FD"); ok {
		value, err := fromDescriptor(v)
		return value, true, named(p.Name+"_FD", err)
	}
	if v, ok := os.LookupEnv(p.Name + "_FILE"); ok {
		value, err := fromFile(v)
		return value, true, named(p.Name+"_FILE", err)
	}
	if v, ok := os.LookupEnv(p.Name + "_CMD"); ok {
		value, err := fromCommand(ctx, v)
		return value, true, named(p.Name+"_CMD", err)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || p.Name != KeyPassword {
		return nil, false, nil
	}
	value, err := readLimited(filepath.Join(dir, keyCredential), maxPassphrase)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	return value, true, err
}

// named adds the name of a variable to an error.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// try opens a protected key: with the passphrase in the environment, and if that is
// wrong, with one from the terminal.
func (p *Passphrases) try(ctx context.Context, what string, open func(passphrase []byte) error) error {
	value, set, err := p.fromEnv(ctx)
	if err != nil {
		return err
	}
	if set {
		if err = open(value); !errors.Is(err, keys.ErrPassphrase) {
			return err
		}
	}
	asked, aerr := p.ask(ctx, what)
	if errors.Is(aerr, errNoPassphrase) && set {
		return fmt.Errorf("the passphrase in the environment: %w", err)
	}
	if aerr != nil {
		return aerr
	}
	return open(asked)
}

// ask asks for a passphrase on the terminal until ctx is done.
func (p *Passphrases) ask(ctx context.Context, what string) ([]byte, error) {
	f, ok := p.Keyring.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errNoPassphrase
	}
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(p.Keyring.Stderr, "Passphrase of %s: ", what)
	defer fmt.Fprintln(p.Keyring.Stderr)
	type answer struct {
		value []byte
		err   error
	}
	got := make(chan answer, 1)
	go func() { // the read waits for a line, and the process may end first
		value, err := term.ReadPassword(int(f.Fd()))
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(int(f.Fd()), before))
	}
}

// firstLine returns the first line without its end.
func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func fromFile(path string) ([]byte, error) {
	text, err := readLimited(path, maxPassphrase)
	return firstLine(text), err
}

// fromDescriptor reads a descriptor that this process inherited, and closes it.
func fromDescriptor(text string) ([]byte, error) {
	fd, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%q is no descriptor", text)
	}
	f := os.NewFile(uintptr(fd), "passphrase")
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
	return firstLine(value), err
}

// fromCommand runs a program, without a shell, and returns its output.
func fromCommand(ctx context.Context, line string) ([]byte, error) {
	words, err := shellquote.Split(line)
	if err != nil || len(words) == 0 {
		return nil, fmt.Errorf("not a command line: %w", errors.Join(err, errors.ErrUnsupported))
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", words[0], err)
	}
	return firstLine(out[:min(len(out), maxPassphrase)]), nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	if err := reach.Answers(context.Background(), path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", path, limit)
	}
	return text, err
}

// WithoutPassphrases returns an environment without the variables that hold a
// passphrase or say where to find one.
func WithoutPassphrases(env []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, MasterPassword) || strings.HasPrefix(name, "PBS_") && strings.Contains(name, "PASSWORD") {
			continue
		}
		out = append(out, v)
	}
	return out
}
