package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The official client mounts an archive from a server that runs. Both are somebody else's:
// they are measured only if the client is named. Which server it asks, it learns from
// its own variables, PBS_REPOSITORY, PBS_PASSWORD and PBS_FINGERPRINT.

// officialModes are the ways in which that client stores a tree, by the subject of
// ours that has the same format.
var officialModes = map[string]string{"v1": "legacy", "split": "data"}

// officialID is the group in which it stores them.
func officialID(format string) string { return "pbsfs-bench-" + format }

// makeOfficial has the client back up what is measured. What its server has already, it
// does not send again.
func (d *data) makeOfficial(ctx context.Context, o options) error {
	for format, mode := range officialModes {
		args := []string{
			"backup", "tree.pxar:" + d.at(treeDir), "--backup-type", "host", "--backup-id", officialID(format),
			"--change-detection-mode", mode,
		}
		if format == "v1" {
			args = append(args, "disk.img:"+d.at(imageFile))
		}
		if err := command(ctx, o.official, args...); err != nil {
			return err
		}
	}
	return nil
}

// mountOfficial mounts an archive with the client, or, for a row that reads the image,
// has it made a block device.
func (d *data) mountOfficial(ctx context.Context, o options, format string, r row) (*served, error) {
	group := "host/" + officialID(format)
	if r.image {
		return d.mapOfficial(ctx, o, group)
	}
	at, err := d.newMountpoint()
	if err != nil {
		return nil, err
	}
	// With --verbose it stays in the foreground.
	cmd := exec.CommandContext(ctx, o.official, "mount", group, "tree.pxar", at, "--verbose", "true")
	return d.serve(ctx, cmd, at, served{tree: at}, filepath.Join(at, d.largest))
}

// mapOfficial returns the image behind a loop device: the one that has a file afterwards and
// had none before.
func (d *data) mapOfficial(ctx context.Context, o options, group string) (*served, error) {
	before, err := filepath.Glob("/dev/loop[0-9]*")
	if err != nil {
		return nil, err
	}
	used := make(map[string]bool)
	for _, dev := range before {
		used[dev] = backed(dev)
	}
	if err := command(ctx, o.official, "map", group, "disk.img"); err != nil {
		return nil, err
	}
	after, err := filepath.Glob("/dev/loop[0-9]*")
	for _, dev := range after {
		if !used[dev] && backed(dev) {
			return &served{image: dev, end: func() error { return command(context.WithoutCancel(ctx), o.official, "unmap", dev) }}, nil
		}
	}
	return nil, errors.Join(err, fmt.Errorf("%s has mapped %s to no device", o.official, group))
}

// backed reports whether a loop device has a file.
func backed(dev string) bool {
	return exists(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file"))
}

// officialPath returns the client that is named, "" if none is.
func officialPath(named string) (string, error) {
	if named == "" {
		return "", nil
	}
	if os.Getenv("PBS_REPOSITORY") == "" {
		return "", fmt.Errorf("%s needs to know its server: set PBS_REPOSITORY, and PBS_PASSWORD and PBS_FINGERPRINT as it wants them", named)
	}
	path, err := exec.LookPath(named)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
