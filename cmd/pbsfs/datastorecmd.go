package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/served"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/reach"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/bucket"
)

const datastoreHelp = `List the datastores that are configured, and change that list.

On a host with a Proxmox Backup Server, the list is the server's, and only the
server changes it (proxmox-backup-manager datastore).`

func newDatastoreCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datastore",
		Short: "list, add or remove configured datastores",
		Long:  datastoreHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("datastore: say list, add or remove")
		},
	}
	cmd.AddCommand(newDatastoreListCommand(a), newDatastoreAddCommand(a), newDatastoreRemoveCommand(a))
	return cmd
}

// datastoreJSON is a configured datastore in JSON output.
type datastoreJSON struct {
	Name          string  `json:"name"`
	Path          string  `json:"path"`
	BackingDevice string  `json:"backing_device,omitempty"`
	Bucket        string  `json:"bucket,omitempty"`
	Comment       string  `json:"comment,omitempty"`
	Type          *string `json:"maintenance"`
}

func newDatastoreListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list configured datastores",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			return a.listDatastores(host, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print [{"name","path","backing_device","bucket","comment","maintenance"}]`)
	return cmd
}

func (a *app) listDatastores(host hosts.Host, asJSON bool) error {
	list, err := locate.Configured(host)
	if err != nil {
		return err
	}
	out := make([]datastoreJSON, 0, len(list))
	for _, d := range list {
		mode, err := status.ModeOf(host, d.Name)
		if err != nil {
			return err
		}
		out = append(out, datastoreJSON{d.Name, d.Dir(), d.BackingDevice, d.Bucket, d.Comment, mode.Type})
	}
	if asJSON {
		return a.json(out)
	}
	shown := a.table()
	for _, d := range out {
		mode := "-"
		if d.Type != nil {
			mode = *d.Type
		}
		path := d.Path
		if d.Bucket != "" {
			path = bucket.Location{Bucket: d.Bucket, Store: d.Name}.String()
		}
		shown.row(d.Name, mode, path)
	}
	return shown.print(a.out())
}

func newDatastoreAddCommand(a *app) *cobra.Command {
	var device, comment string
	var create bool
	var server locate.Server
	cmd := &cobra.Command{
		Use:   "add NAME PATH|s3://BUCKET/NAME",
		Short: "configure a datastore under a name",
		Long: `Configure a datastore under a name, so that it can have a maintenance mode.

PATH is its directory; with --backing-device the directory on that file system,
relative to its top. --create makes an empty datastore there first; the
directory must be empty or not exist.

A datastore in a bucket has the name there that it has here. Its server, and the access key
that the environment has (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), are written to s3.cfg
beside datastore.cfg, which nobody else may read; without a key in the environment, it is
looked for whenever the datastore is opened.`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			if create && device != "" {
				return usage.Errorf("datastore add: --create makes a datastore in a directory that is there now; mount the device, and create it there")
			}
			d := cfg.Datastore{Name: args[0], Path: args[1], BackingDevice: device, Comment: comment}
			if strings.HasPrefix(d.Path, bucket.Scheme) {
				if create || device != "" {
					return usage.Errorf("datastore add: --create and --backing-device are for directories")
				}
				return locate.AddBucket(cmd.Context(), host, d, server, a.getenv)
			}
			return addDatastore(cmd.Context(), host, d, create)
		},
	}
	cmd.Flags().StringVar(&device, "backing-device", "", "UUID of the file system, for a datastore on a removable disk")
	_ = cmd.RegisterFlagCompletionFunc("backing-device", completeDevice) // the flag is there
	cmd.Flags().StringVar(&comment, "comment", "", "a comment")
	cmd.Flags().BoolVar(&create, "create", false, "make an empty datastore first")
	registerServer(cmd.Flags(), &server)
	return cmd
}

// addDatastore adds a datastore to the configuration; with create it makes the
// datastore first. Everything that could be refused later is checked before anything is
// made.
func addDatastore(ctx context.Context, host hosts.Host, d cfg.Datastore, create bool) (err error) {
	if create {
		if d.Path, err = filepath.Abs(d.Path); err != nil {
			return err
		}
		if err := reach.Answers(ctx, d.Path); err != nil {
			return err
		}
		if err := maint.CheckAdd(ctx, host, d); err != nil {
			return err
		}
		if err := store.Create(ctx, d.Path); err != nil {
			return err
		}
	}
	if d.BackingDevice == "" {
		if d.Path, err = locate.Directory(ctx, host, d.Path); err != nil {
			return err
		}
	}
	return maint.AddDatastore(ctx, host, d)
}

func newDatastoreRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "remove a datastore from the list; its data stays",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeDatastores(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			return removeDatastore(cmd.Context(), host, args[0])
		},
	}
}

// removeDatastore removes a datastore from the configuration, unless a process serves
// it: its trees would belong to no datastore, and its device would stay mounted.
func removeDatastore(ctx context.Context, host hosts.Host, name string) error {
	listed, err := locate.Configured(host)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(listed, func(d cfg.Datastore) bool { return d.Name == name })
	if i < 0 || host.IsPBS() {
		return maint.RemoveDatastore(ctx, host, name) // its error says why not
	}
	t := locate.TargetOf(host, listed, listed[i])
	where, err := served.At(host, t)
	if err != nil {
		return err
	}
	if len(where) > 0 {
		return fmt.Errorf("datastore %s is %w: it is mounted on %s; first: pbsfs unmount %s", name, mountpoint.ErrActive, strings.Join(where, ", "), name)
	}
	also, err := served.FormerNames(host, t)
	if err != nil {
		return err
	}
	if err := maint.RemoveDatastore(ctx, host, name, also...); err != nil || listed[i].Client == "" {
		return err
	}
	return maint.DropEndpoint(ctx, host, listed[i].Client)
}
