package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountlist"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/hosts"
)

// mountsDir is the directory of mounts below that of our configuration.
const mountsDir = "mounts"

// checkAuto refuses the arguments and flags that --auto gets from files.
func checkAuto(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage.Errorf("mount --auto: the mounts are those of the configuration, and at most one DEVICE is named")
	}
	for _, name := range []string{"device", "path", "rescue", "options", "foreground", "keyfile", "master-keyfile"} {
		if cmd.Flags().Changed(name) {
			return usage.Errorf("mount --auto: --%s is for one mount; write it into OPTIONS of the mount's file", name)
		}
	}
	return nil
}

// mountAuto mounts what the configuration says is to be mounted by itself: everything on
// one device, or everything that is there. What cannot be mounted does not keep the rest
// from being mounted.
func (a *app) mountAuto(ctx context.Context, args []string) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	var on *device.Device
	if len(args) > 0 {
		d, err := device.FindDevice(args[0])
		if err != nil {
			return err
		}
		on = &d
	}
	list, err := mountlist.Read(filepath.Join(host.OwnConfigDir(), mountsDir))
	failed := []error{err}
	for _, m := range list {
		if !m.Auto {
			continue
		}
		here, err := isHere(host, m, on)
		if err == nil && here {
			err = a.mountListed(ctx, m)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	return errors.Join(failed...)
}

// isHere reports whether a mount is one of that device, or, if on is nil, whether its
// device is there. A datastore that lies on no removable device is always there, and on
// no device that appears.
func isHere(host hosts.Host, m mountlist.Mount, on *device.Device) (bool, error) {
	wanted := ""
	for _, word := range splitOptions(m.Options) {
		if value, ok := strings.CutPrefix(word, "device="); ok {
			wanted = strings.Trim(value, `"`)
		}
	}
	if wanted == "" {
		t, err := locate.Resolve(host, m.Datastore)
		if err != nil {
			return on == nil, nil // the mount will say why; what is on no device is not meant
		}
		if t.Removable == nil {
			return on == nil, nil
		}
		wanted = "UUID=" + t.Removable.BackingDevice
	}
	d, err := device.FindDevice(wanted)
	if errors.Is(err, device.ErrNoDevice) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return on == nil || d.Major == on.Major && d.Minor == on.Minor || d.UUID != "" && d.UUID == on.UUID, nil
}

// mountListed mounts one tree by a command of its own, whose messages it passes on.
func (a *app) mountListed(ctx context.Context, m mountlist.Mount) error {
	args := []string{"mount", "--" + againFlag, "-o", m.Options}
	for flag, value := range map[string]string{"--config-dir": a.configDir, "--run-dir": a.runDir} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	args = append(args, "--")
	if m.Datastore != "" {
		args = append(args, m.Datastore)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, ownProgram, append(args, m.Point)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = os.Environ()
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil {
		return a.warn(said.String())
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	text := strings.TrimPrefix(strings.TrimSpace(said.String()), "pbsfs: ")
	return &exitError{code: ended.ExitCode(), text: strings.ReplaceAll(text, "\n", "; ")}
}
