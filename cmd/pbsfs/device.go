package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/device/superblock"
	"github.com/pbsfs/pbsfs/maint/hosts"
	"github.com/pbsfs/pbsfs/maint/modes"
	"github.com/pbsfs/pbsfs/maint/text"
)

const deviceListHelp = `List block devices and partitions that have something on them, and the
datastores there: in the top directory or up to three directories down.

A device that is not mounted is mounted for the look, read-only and where nobody
sees it, without a byte of it being changed. Only root can do that, and read the
devices themselves; for others, what cannot be known is left out.

--json prints
  [{"device","uuid","label","fstype","size","mounted_at",
    "datastores":[{"path","name"}],"problem"}]
mounted_at is null for a device that is not mounted; path is relative to the top
of the device, "" for the top itself; name is the datastore's name in
datastore.cfg, null where it has none; problem says why a device could not be
looked into. More fields may be added.`

func newDeviceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "list devices and the datastores on them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("device: say list")
		},
	}
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "list devices and the datastores on them",
		Long:  deviceListHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.listDevices(cmd.Context(), asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(list)
	return cmd
}

// deviceJSON is a device in JSON output.
type deviceJSON struct {
	Device     string            `json:"device"`
	UUID       string            `json:"uuid"`
	Label      string            `json:"label"`
	FSType     string            `json:"fstype"`
	Size       int64             `json:"size"`
	MountedAt  *string           `json:"mounted_at"`
	Datastores []deviceStoreJSON `json:"datastores"`
	Problem    string            `json:"problem,omitempty"`
}

type deviceStoreJSON struct {
	Path string  `json:"path"`
	Name *string `json:"name"`
}

func (a *app) listDevices(ctx context.Context, asJSON bool) error {
	host, configured, err := a.configuredAnywhere()
	if err != nil {
		return err
	}
	devices, err := device.Devices()
	if err != nil {
		return err
	}
	out := make([]deviceJSON, 0, len(devices))
	for _, d := range devices {
		out = append(out, describeDevice(ctx, host, d, configured))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if asJSON {
		return a.json(out)
	}
	return a.printDevices(out)
}

// configuredAnywhere returns the configured datastores. A user without a run directory
// has none, but may see devices all the same.
func (a *app) configuredAnywhere() (hosts.Host, []cfg.Datastore, error) {
	host, err := a.host()
	if err != nil && os.Geteuid() != 0 {
		return hosts.Host{}, nil, nil
	}
	if err != nil {
		return hosts.Host{}, nil, err
	}
	list, err := locate.Configured(host)
	return host, list, err
}

// describeDevice describes a device and what is on it.
func describeDevice(ctx context.Context, host hosts.Host, d device.Device, configured []cfg.Datastore) deviceJSON {
	out := deviceJSON{Device: d.Path, UUID: d.UUID, Label: d.Label, FSType: d.Type, Size: d.Size, Datastores: []deviceStoreJSON{}}
	if m, _, ok := d.MountOf(""); ok {
		out.MountedAt = &m.Point
	} else if len(d.Mounts) > 0 {
		out.MountedAt = &d.Mounts[0].Point
	}
	if d.Err != nil && len(d.Mounts) == 0 {
		out.Problem = d.Err.Error()
		if errors.Is(d.Err, os.ErrPermission) {
			out.Problem = "only root can look into it"
		}
		return out
	}
	if d.Use != superblock.Filesystem {
		out.Problem = d.Use.String()
		return out
	}
	found, err := locate.DatastoresOn(ctx, d)
	switch {
	case errors.Is(err, os.ErrPermission):
		out.Problem = "only root can look into it"
	case err != nil:
		out.Problem = oneLine(err.Error())
	}
	for _, path := range found {
		out.Datastores = append(out.Datastores, deviceStoreJSON{Path: path, Name: configuredName(host, d, path, configured)})
	}
	return out
}

// configuredName returns the configured name of a datastore on a device. The entry
// names the device, or a path on a mount of it.
func configuredName(host hosts.Host, d device.Device, rel string, configured []cfg.Datastore) *string {
	for _, c := range configured {
		if c.On(d.UUID, rel) {
			return &c.Name
		}
	}
	if _, dir, mounted := d.MountOf(rel); mounted {
		found, _ := modes.FindAt(context.Background(), host, configured, dir) // after an error the datastore has no name
		for _, c := range found.Listed {
			return &c.Name
		}
	}
	return nil
}

func (a *app) printDevices(all []deviceJSON) error {
	list := a.table()
	for _, d := range all {
		at := "-"
		if d.MountedAt != nil {
			at = text.Path(*d.MountedAt)
		}
		list.row(d.Device, orDash(d.FSType), sizeText(d.Size), orDash(d.UUID), pathOrDash(d.Label), at)
	}
	if err := list.print(a.out()); err != nil {
		return err
	}
	var b strings.Builder
	for _, d := range all {
		for _, s := range d.Datastores {
			name := "not configured"
			if s.Name != nil {
				name = "configured as " + *s.Name
			}
			fmt.Fprintf(&b, "datastore on %s: %s, %s\n", d.Device, text.Path(filepath.Join("/", s.Path)), name)
		}
		if d.Problem != "" {
			fmt.Fprintf(&b, "%s: %s\n", d.Device, d.Problem)
		}
	}
	_, err := fmt.Fprint(a.out(), b.String())
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func pathOrDash(s string) string {
	if s == "" {
		return "-"
	}
	return text.Path(s)
}
