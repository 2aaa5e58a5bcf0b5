package main

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pbsfs/pbsfs/maint/hosts"
)

// The disk image of a demo has one partition, with an ext4 file system.
const (
	demoDisk      = 16 << 20
	demoPartition = 1 << 20 // where the partition begins
	sector        = 512
	linuxType     = 0x83
)

// ownHost returns where the demo keeps its state, separate from all other state on the
// host.
func (d *demo) ownHost() (hosts.Host, error) {
	own := &app{configDir: d.at("etc"), runDir: d.at("run"), getenv: func(string) string { return "" }}
	return own.host()
}

// make makes the files that the demo stores.
func (d *demo) make() error {
	if _, err := lookSbin("mkfs.ext4"); err != nil {
		return err
	}
	for _, dir := range []string{"", "etc", "run", "cache", "bin", "mnt", "home", "home/photos", "disk", "disk/etc"} {
		if err := os.MkdirAll(d.at(dir), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.at(demoMark), nil, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"home/letter.txt":      "Dear reader,\nthis is the first version.\n",
		"home/list.txt":        "bread\nbutter\n",
		"home/photos/lake.ppm": "P3 1 1 255\n30 90 200\n",
		"disk/etc/motd":        "Hello from inside a disk image.\n",
	} {
		if err := os.WriteFile(d.at(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Symlink(self, d.at("bin/pbsfs")),
		os.Symlink("photos/lake.ppm", d.at("home/wallpaper")),
		d.makeDisk(),
	)
}

// change changes the files between the two snapshots.
func (d *demo) change() error {
	return errors.Join(
		os.WriteFile(d.at("home/letter.txt"), []byte("Dear reader,\nthis is the second version.\n"), 0o600),
		os.WriteFile(d.at("home/photos/hills.ppm"), []byte("P3 1 1 255\n20 160 40\n"), 0o600),
		os.Remove(d.at("home/list.txt")),
	)
}

// makeDisk makes a disk image with a partition table, one partition, and files in it.
// It needs no root rights.
func (d *demo) makeDisk() error {
	f, err := os.OpenFile(d.at("disk.img"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(partitionTable(demoPartition/sector, (demoDisk-demoPartition)/sector), 0)
	if err := errors.Join(err, f.Truncate(demoDisk), f.Close()); err != nil {
		return err
	}
	// mkfs itself can fill a file system that is a part of a file.
	mkfs, err := lookSbin("mkfs.ext4")
	if err != nil {
		return err
	}
	cmd := exec.Command(mkfs, "-q", "-F", "-d", d.at("disk"), "-E", "offset=1048576", d.at("disk.img"), "15M")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}

// partitionTable returns a master boot record with one partition, in sectors.
func partitionTable(begin, length uint32) []byte {
	const entry, size, mark = 446, 16, 510
	t := make([]byte, sector)
	p := t[entry : entry+size]
	p[4] = linuxType
	binary.LittleEndian.PutUint32(p[8:], begin)
	binary.LittleEndian.PutUint32(p[12:], length)
	t[mark], t[mark+1] = 0x55, 0xaa
	return t
}

// lookSbin finds a program that is not in the path of ordinary users.
func lookSbin(name string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New(name + " is missing; install the package e2fsprogs")
}
