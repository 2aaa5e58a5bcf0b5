package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

const keyHelp = `Keys of encrypted snapshots.

Each snapshot is opened with the key whose fingerprint its manifest names. A
passphrase is taken from what was named along with the key, else from the
environment (PBS_ENCRYPTION_PASSWORD, _FD, _FILE, _CMD, or a systemd credential),
else asked for on the terminal.`

func newKeyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "show, recover or add keys of encrypted snapshots",
		Long:  keyHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("key: say create, list, show, recover or add")
		},
	}
	cmd.AddCommand(newKeyCreateCommand(a), newKeyListCommand(a), newKeyShowCommand(a), newKeyRecoverCommand(a), newKeyAddCommand(a))
	return cmd
}

func newKeyCreateCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "create FILE",
		Short: "make a key, without a passphrase",
		Long: `Make a key to encrypt snapshots with, in a new file that only its owner can read.

It is a key file of the official client, without a passphrase: whoever has the
file can read what it encrypts, and without it nobody can. The official client
adds a passphrase (proxmox-backup-client key change-passphrase FILE).`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			var raw [32]byte
			_, _ = rand.Read(raw[:]) // never fails
			text, err := keys.NewFile(raw, time.Now())
			if err != nil {
				return err
			}
			return writeNew(args[0], text)
		},
	}
}

// keyJSON is the public part of a key file in JSON output.
type keyJSON struct {
	File        string `json:"file"`
	KDF         string `json:"kdf"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Created     string `json:"created"`
	Modified    string `json:"modified"`
	Hint        string `json:"hint,omitempty"`
}

func keyInfo(path string, f *keys.File) keyJSON {
	out := keyJSON{File: path, KDF: f.KDF(), Created: f.Created, Modified: f.Modified, Hint: f.Hint}
	if fp, ok := f.Fingerprint(); ok {
		out.Fingerprint = fp.String()
	}
	return out
}

func newKeyListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the keys that are used without being named",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			all := []keyJSON{}
			offered, err := a.keyring().OfferedFiles()
			if err != nil {
				return err
			}
			for _, path := range append(a.keyring().DefaultFiles(), offered...) {
				f, err := a.keyring().ReadFile(path)
				if err != nil {
					return err
				}
				all = append(all, keyInfo(path, f))
			}
			if asJSON {
				return a.json(all)
			}
			for _, k := range all {
				fmt.Fprintf(a.out(), "%s  %s  %s\n", text.Printable(k.Fingerprint), text.Printable(k.KDF), text.Printable(k.File))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print [{"file","kdf","fingerprint","created","modified","hint"}]`)
	return cmd
}

func newKeyShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "show what is public about a key file",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := a.keyring().ReadFile(args[0])
			if err != nil {
				return err
			}
			k := keyInfo(args[0], f)
			if asJSON {
				return a.json(k)
			}
			fmt.Fprintf(a.out(), "fingerprint: %s\nkdf: %s\ncreated: %s\nmodified: %s\n", text.Printable(k.Fingerprint), text.Printable(k.KDF), text.Printable(k.Created), text.Printable(k.Modified))
			if k.Hint != "" {
				fmt.Fprintf(a.out(), "hint: %s\n", text.Printable(k.Hint))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"file","kdf","fingerprint","created","modified","hint"}`)
	return cmd
}

const keyRecoverHelp = `Recover the key of a snapshot with the private half of the RSA master key.

SNAPSHOT is its path below the mount point, such as host/NAME/latest. The key
file is written to --output (mode 0600; an existing file is kept), else to the
standard output. It is not protected by a passphrase: keep it safe.

The passphrase of the master key is taken from PBSFS_MASTER_KEY_PASSWORD, _FD,
_FILE or _CMD, else asked for on the terminal.`

func newKeyRecoverCommand(a *app) *cobra.Command {
	var o openOptions
	var output string
	cmd := &cobra.Command{
		Use:               "recover DATASTORE SNAPSHOT --master-keyfile FILE",
		Short:             "recover the key of a snapshot with the master key",
		Long:              keyRecoverHelp,
		Args:              usageArgs(cobra.ExactArgs(2)),
		ValidArgsFunction: a.completePaths(&o, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.MasterFiles) == 0 {
				return usage.Errorf("key recover: name the master key with --master-keyfile")
			}
			text, err := a.recoverKey(cmd.Context(), args[0], args[1], o)
			if err != nil {
				return err
			}
			if output == "" {
				_, err := a.stdout.Write(text)
				return err
			}
			return writeNew(output, text)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().StringVar(&output, "output", "", "where the key file is written")
	return cmd
}

// recoverKey returns the text of the key file that a snapshot contains.
func (a *app) recoverKey(ctx context.Context, datastore, snapshot string, o openOptions) ([]byte, error) {
	var masters []*keys.Master
	pass := &unlock.Passphrases{Keyring: a.keyring(), Name: unlock.MasterPassword}
	for _, file := range o.MasterFiles {
		m, err := a.keyring().OpenMaster(ctx, file, pass)
		if err != nil {
			return nil, err
		}
		masters = append(masters, m)
	}
	ref, err := a.open(ctx, datastore, o, &unlock.Secrets{}, slog.New(slog.NewTextHandler(a.stderr, nil)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ref.Close() }()
	var text []byte
	err = ref.View(ctx, func(r *store.Reader) error {
		s, err := snapshotAt(ctx, r, tree.New(ref), snapshot)
		if err != nil {
			return err
		}
		text, err = s.RecoverKey(ctx, r, masters)
		return err
	})
	if errors.Is(err, keys.ErrUnwrap) {
		return nil, unlock.NewError(err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := keys.ParseFile(text); err != nil {
		return nil, unlock.Errorf("the recovered key: %w", err)
	}
	return append(text, '\n'), nil
}

// snapshotAt returns the snapshot at a path of the tree.
func snapshotAt(ctx context.Context, r *store.Reader, t *tree.Tree, path string) (*store.Snapshot, error) {
	n, err := t.Walk(ctx, r, path, true)
	if err != nil {
		return nil, atPath(path, err)
	}
	var s name.Snapshot
	s, ok := n.Snapshot()
	if !ok {
		return nil, atPath(path, errors.New("not a snapshot"))
	}
	return store.LoadSnapshot(ctx, r, s)
}

// writeNew writes a file that only its owner may read and that must not exist yet.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func newKeyAddCommand(a *app) *cobra.Command {
	var o unlock.Options
	cmd := &cobra.Command{
		Use:               "add MOUNTPOINT --keyfile FILE",
		Short:             "give a key to a running mount",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeMountpoint(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.KeyFiles) == 0 {
				return usage.Errorf("key add: name the key with --keyfile")
			}
			return a.addKeys(cmd.Context(), args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.KeyFiles, "keyfile", nil, "the key: FILE[,password-file=FILE|,password-cmd=CMD]; may be repeated")
	return cmd
}

// addKeys passes keys to the process that serves a mount.
func (a *app) addKeys(ctx context.Context, where string, o unlock.Options) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	trees, err := mountpoint.TreesAt(ctx, where)
	if err != nil {
		return err
	}
	known, err := served.Records(host)
	if err != nil {
		return err
	}
	for _, m := range trees {
		r := served.Find(known, m)
		if r == nil || !r.Ours() {
			continue
		}
		pass := &unlock.Passphrases{Keyring: a.keyring(), Name: unlock.KeyPassword}
		s := &unlock.Secrets{}
		for _, spec := range o.KeyFiles {
			raw, err := a.keyring().OpenFile(ctx, spec, pass)
			if err != nil {
				return err
			}
			s.Keys = append(s.Keys, raw)
		}
		_, err := r.Ask(ctx, served.Request{Add: s})
		return err
	}
	return fmt.Errorf("%s: not mounted by pbsfs", where)
}
