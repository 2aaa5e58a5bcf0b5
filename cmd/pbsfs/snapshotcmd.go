package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/name"
)

func newSnapshotCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "write snapshots",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("snapshot: say create")
		},
	}
	cmd.AddCommand(newSnapshotCreateCommand(a))
	return cmd
}

const snapshotCreateHelp = `Write a snapshot into a datastore, as the official client would.

SOURCE is one of
  NAME.pxar:DIR    a directory, with all its metadata
  NAME.img:FILE    a disk image: a file or a block device
  NAME.conf:FILE   a small file, stored in one piece; NAME.log:FILE likewise

Data that is in the datastore already is not stored again. The snapshot appears
when it is complete; an interrupted command leaves none. Files that change or
vanish while they are read are reported, and the rest is stored. If a file that
exists could not be stored, the snapshot has the rest, and the exit code is 1. The
command is refused if the group has a snapshot that is newer than the clock says.

A directory on another file system is stored empty, unless --all-file-systems is
given, and so is the datastore itself, with a warning. Exclude lists (files called
.pxarexclude) are stored like other files; no file is left out because of them.

With --keyfile, or when the official client has a default key, the data is
encrypted; --crypt-mode says otherwise. --init makes an empty datastore first if
DATASTORE is a directory that is empty or does not exist.

The path of the snapshot below a mount point is printed.

On a host with a Proxmox Backup Server, its datastores are written to by the
official client only (proxmox-backup-client backup).`

// The values of --crypt-mode are those of the official client.
const (
	cryptNone    = "none"
	cryptEncrypt = "encrypt"
	cryptSign    = "sign-only"
)

// The values of --format.
const (
	formatPxar  = "pxar"
	formatSplit = "split"
)

// snapshotOptions are the flags of snapshot create.
type snapshotOptions struct {
	typ, id, ns    string
	format         string
	keyFile        string
	cryptMode      string
	owner, notes   string
	protected      bool
	init           bool
	allFileSystems bool
	wait           time.Duration
}

func newSnapshotCreateCommand(a *app) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use:   "create SOURCE... DATASTORE",
		Short: "write a snapshot of directories, disk images and files",
		Long:  snapshotCreateHelp,
		Args:  usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			last := len(args) - 1
			return a.createSnapshot(cmd.Context(), args[:last], args[last], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.typ, "type", string(name.Host), "type of the backup: host, vm or ct")
	f.StringVar(&o.id, "id", "", "id of the backup (default: the host name)")
	f.StringVar(&o.ns, "ns", "", "namespace, which is made if it does not exist")
	f.StringVar(&o.format, "format", formatPxar, "how directories are stored: pxar, or split into metadata and content")
	f.StringVar(&o.keyFile, "keyfile", "", "key to encrypt or sign with: FILE[,password-file=FILE|,password-cmd=CMD]")
	f.StringVar(&o.cryptMode, "crypt-mode", "", "none, encrypt or sign-only (default: encrypt if there is a key)")
	f.StringVar(&o.owner, "owner", "", "owner of the backup group; a group of another owner is refused (default for a new group: "+store.DefaultOwner+")")
	f.StringVar(&o.notes, "notes", "", "notes on the snapshot")
	f.BoolVar(&o.protected, "protected", false, "keep the snapshot from being pruned")
	f.BoolVar(&o.init, "init", false, "make an empty datastore first, if there is none")
	f.BoolVar(&o.allFileSystems, "all-file-systems", false, "enter directories on other file systems")
	f.DurationVar(&o.wait, "wait", time.Minute, "how long to wait for a garbage collection, or another writer of the group")
	return cmd
}

// ownerText matches the owner of a group: user@realm, or a token.
var ownerText = regexp.MustCompile(`^[^\s:/[:cntrl:]]+@[A-Za-z0-9_][A-Za-z0-9._-]*(![A-Za-z0-9_][A-Za-z0-9._-]*)?$`)

// group returns the backup group that the flags describe.
func (o *snapshotOptions) group() (name.Group, error) {
	typ, err := name.ParseType(o.typ)
	if err != nil {
		return name.Group{}, usage.Errorf("--type: %w", err)
	}
	ns, err := name.ParseNamespace(o.ns)
	if err != nil {
		return name.Group{}, usage.Errorf("--ns: %w", err)
	}
	if o.id == "" {
		if o.id, err = os.Hostname(); err != nil {
			return name.Group{}, fmt.Errorf("no --id, and no host name: %w", err)
		}
	}
	g, err := name.NewGroup(ns, typ, o.id)
	if err != nil {
		return g, usage.Errorf("--id: %w", err)
	}
	return g, nil
}

// check returns an error for flags that make no sense.
func (o *snapshotOptions) check() error {
	switch o.format {
	case formatPxar, formatSplit:
	default:
		return usage.Errorf("--format %q: want pxar or split", o.format)
	}
	switch o.cryptMode {
	case "", cryptNone, cryptEncrypt, cryptSign:
	default:
		return usage.Errorf("--crypt-mode %q: want none, encrypt or sign-only", o.cryptMode)
	}
	switch {
	case o.cryptMode == cryptNone && o.keyFile != "":
		return usage.Errorf("--keyfile and --crypt-mode none contradict each other")
	case o.owner != "" && !ownerText.MatchString(o.owner):
		return usage.Errorf("--owner %q: want user@realm", o.owner)
	case o.wait < 0:
		return usage.Errorf("--wait %s: want no negative time", o.wait)
	}
	return nil
}

// snapshotKey returns the key to encrypt or sign with, nil if there is none.
func (a *app) snapshotKey(ctx context.Context, o snapshotOptions) (*keys.Key, error) {
	file := o.keyFile
	if file == "" && o.cryptMode != cryptNone {
		if list := a.keyring().DefaultFiles(); len(list) > 0 {
			file = list[0]
		}
	}
	if file == "" {
		if o.cryptMode == cryptEncrypt || o.cryptMode == cryptSign {
			return nil, usage.Errorf("--crypt-mode %s needs a key: --keyfile", o.cryptMode)
		}
		return nil, nil
	}
	raw, err := a.keyring().OpenFile(ctx, file, &unlock.Passphrases{Keyring: a.keyring(), Name: unlock.KeyPassword})
	if err != nil {
		return nil, err
	}
	return keys.New(raw)
}

// snapshotMoment bounds the time to remove an unfinished snapshot.
const snapshotMoment = 10 * time.Second

// createSnapshot runs snapshot create.
func (a *app) createSnapshot(ctx context.Context, args []string, datastore string, o snapshotOptions) error {
	defer a.moment.allow(snapshotMoment)()
	if err := o.check(); err != nil {
		return err
	}
	g, err := o.group()
	if err != nil {
		return err
	}
	sources, err := openSources(ctx, args, o)
	if err != nil {
		return err
	}
	defer sources.close()
	key, err := a.snapshotKey(ctx, o)
	if err != nil {
		return err
	}
	host, err := a.host()
	if err != nil {
		return err
	}
	t, err := a.writable(ctx, host, datastore, o.init)
	if err != nil {
		return err
	}
	if err := sources.outside(ctx, t.Path); err != nil {
		return err
	}
	ref, err := a.openTarget(ctx, host, t, openOptions{}, &unlock.Secrets{}, slog.New(slog.NewTextHandler(a.stderr, nil)))
	if err != nil {
		return err
	}
	defer func() { _ = ref.Close() }()
	w, err := ref.AcquireWriter(ctx)
	if err != nil {
		return err
	}
	defer w.Release()
	s, err := store.BeginSnapshot(ctx, w, g, store.SnapshotOptions{
		Key: key, SignOnly: o.cryptMode == cryptSign, Owner: o.owner, Notes: o.notes, Protected: o.protected, Wait: o.wait,
		Waiting: func(err error) { fmt.Fprintf(a.stderr, "pbsfs: waiting: %v\n", err) },
	})
	if err != nil {
		return err
	}
	return a.fillSnapshot(ctx, s, sources, o, t.Path)
}

// writable returns the datastore to write to. With init it makes one if there is none.
func (a *app) writable(ctx context.Context, host hosts.Host, arg string, init bool) (locate.Target, error) {
	t, err := locate.Resolve(host, arg)
	if err != nil && locate.IsPath(arg) && !locate.MayHold(ctx, arg) {
		if !init {
			return t, fmt.Errorf("%w; --init makes an empty datastore there", err)
		}
		if err := store.Create(ctx, arg); err != nil {
			return t, err
		}
		fmt.Fprintf(a.stderr, "made an empty datastore in %s\n", arg)
		t, err = locate.Resolve(host, arg)
	}
	if err != nil {
		return t, err
	}
	if host.IsPBS() {
		list, err := maint.Datastores(host)
		if err != nil {
			return t, err
		}
		for _, d := range list {
			if d.Name == t.Name {
				return t, fmt.Errorf("datastore %s: the Proxmox Backup Server here manages it; write with the official client: proxmox-backup-client backup", t.Name)
			}
		}
	}
	if t.S3 {
		return t, fmt.Errorf("datastore %s: %s: %w: nothing can be written there", t.Name, t.Path, store.ErrS3Cache)
	}
	return t, nil
}
