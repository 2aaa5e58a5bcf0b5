package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// subject is one of several ways to reach the files.
type subject struct {
	name  string
	mount func(ctx context.Context, r row) (*served, error)
}

// ours reports whether the subject is a build of pbsfs. Of others, a failure costs only
// what was to be compared with.
func (s subject) ours() bool { return strings.HasPrefix(s.name, "pbsfs") }

// served is a subject while its files can be reached.
type served struct {
	tree, image string // where they are; "" if this subject has none
	pid         int    // of the serving process
	inside      string // the tree's path in the datastore; "" if this subject has none
	end         func() error
}

// subjects returns all ways to reach the files that this machine has.
func subjects(d *data, o options) []subject {
	var out []subject
	add := func(name string, mount func(ctx context.Context, r row) (*served, error)) {
		if strings.Contains(name, o.only) {
			out = append(out, subject{name, mount})
		}
	}
	for _, id := range []string{"v1", "split"} {
		add("pbsfs-"+id, func(ctx context.Context, r row) (*served, error) { return d.mountPbsfs(ctx, o.pbsfs, id, o, r) })
		if o.base != "" {
			add("pbsfs-"+id+baseSuffix, func(ctx context.Context, r row) (*served, error) { return d.mountPbsfs(ctx, o.base, id, o, r) })
		}
	}
	if o.official != "" {
		for _, format := range []string{"v1", "split"} {
			add("official-"+format, func(ctx context.Context, r row) (*served, error) { return d.mountOfficial(ctx, o, format, r) })
		}
	}
	add(floorName, func(ctx context.Context, _ row) (*served, error) { return d.mountFloor(ctx) })
	if exists(d.at(squashed)) {
		if _, err := exec.LookPath("squashfuse"); err == nil {
			add("squashfuse", func(ctx context.Context, _ row) (*served, error) { return d.mountSquashfuse(ctx) })
		}
		if os.Geteuid() == 0 {
			add("squashfs", func(ctx context.Context, _ row) (*served, error) { return d.mountSquashfs(ctx) })
		}
	}
	if exists(d.at(resticDir)) {
		add("restic", func(ctx context.Context, _ row) (*served, error) { return d.mountRestic(ctx) })
	}
	add("raw", func(context.Context, row) (*served, error) {
		return &served{tree: d.at(treeDir), image: d.at(imageFile), end: func() error { return nil }}, nil
	})
	return out
}

// baseSuffix tells the other build of pbsfs.
const baseSuffix = "-base"

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// newMountpoint makes an empty directory.
func (d *data) newMountpoint() (string, error) { return os.MkdirTemp(d.dir, "mnt-") }

// mountPbsfs mounts the datastore. What a row remembers on disk is forgotten
// before, unless it wants to find it.
func (d *data) mountPbsfs(ctx context.Context, program, id string, o options, r row) (*served, error) {
	remembered := keptCache
	if !r.keepCache {
		remembered = newCache
		if err := os.RemoveAll(d.at(newCache)); err != nil {
			return nil, err
		}
	}
	at, err := d.newMountpoint()
	if err != nil {
		return nil, err
	}
	cache := o.cacheSize
	if r.cacheMiB > 0 {
		cache = r.cacheMiB
	}
	if err := d.pbsfs(ctx, program, remembered, "mount", d.at(storeDir), at, "--log", d.at("log"), "--cache-size", fmt.Sprintf("%dMiB", cache)); err != nil {
		return nil, err
	}
	s := &served{
		inside: filepath.Join("host", id, "latest/tree.pxar"),
		tree:   filepath.Join(at, "host", id, "latest/tree.pxar"), image: filepath.Join(at, "vm/1/latest/disk.img"),
		end: func() error {
			return errors.Join(d.pbsfs(context.WithoutCancel(ctx), program, remembered, "unmount", at, "--wait", "20s"), os.Remove(at))
		},
	}
	s.pid, err = d.serverPID(at)
	return s, err
}

// serverPID returns the process that serves a mount.
func (d *data) serverPID(at string) (int, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, "run/mounts/*.json"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		var r struct {
			PID        int    `json:"pid"`
			Mountpoint string `json:"mountpoint"`
		}
		text, err := os.ReadFile(f)
		if err == nil && json.Unmarshal(text, &r) == nil && r.Mountpoint == at {
			return r.PID, nil
		}
	}
	return 0, fmt.Errorf("no record of the mount at %s", at)
}

func (d *data) mountSquashfuse(ctx context.Context) (*served, error) {
	return d.mountImage(ctx, "squashfuse", "-f", d.at(squashed))
}

// mountImage has a program serve a mount in the foreground.
func (d *data) mountImage(ctx context.Context, name string, args ...string) (*served, error) {
	at, err := d.newMountpoint()
	if err != nil {
		return nil, err
	}
	return d.serve(ctx, exec.CommandContext(ctx, name, append(args, at)...), at, below(at), filepath.Join(at, treeDir))
}

// below is what is served where the files are below root.
func below(root string) served {
	return served{tree: filepath.Join(root, treeDir), image: filepath.Join(root, imageFile)}
}

// serve starts a program that serves s with a mount at a place, until that is unmounted.
// There is a file at sign as soon as it does.
func (d *data) serve(ctx context.Context, cmd *exec.Cmd, at string, s served, sign string) (*served, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = cmd.Process.Pid
	s.end = func() error {
		unmount := func() error { return command(context.WithoutCancel(ctx), "fusermount3", "-u", at) }
		if os.Geteuid() == 0 {
			unmount = func() error { return unix.Unmount(at, 0) }
		}
		err := unmount()
		for deadline := time.Now().Add(10 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = unmount() {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait() // how it says goodbye is its own affair
		return errors.Join(err, os.Remove(at))
	}
	for deadline := time.Now().Add(time.Minute); !exists(sign); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("%s does not serve %s", cmd.Args[0], sign), s.end())
		}
	}
	return &s, nil
}

func (d *data) mountSquashfs(ctx context.Context) (*served, error) {
	at, err := d.newMountpoint()
	if err != nil {
		return nil, err
	}
	if err := command(ctx, "mount", "-t", "squashfs", "-o", "ro,loop", d.at(squashed), at); err != nil {
		return nil, err
	}
	return &served{tree: filepath.Join(at, treeDir), image: filepath.Join(at, imageFile), end: func() error {
		return errors.Join(command(context.WithoutCancel(ctx), "umount", at), os.Remove(at))
	}}, nil
}

func (d *data) mountRestic(ctx context.Context) (*served, error) {
	at, err := d.newMountpoint()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(at, "snapshots/latest", d.dir)
	return d.serve(ctx, d.restic(ctx, "mount", at), at, below(root), filepath.Join(root, treeDir))
}
