package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// fuseConf is the file in which root permits users to use allow_other.
const fuseConf = "/etc/fuse.conf"

// checkFUSE returns an error if this user cannot mount at all. It checks this itself
// because no user would see the messages of fusermount3.
func checkFUSE(allowOther bool) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close()
	case errors.Is(err, os.ErrNotExist):
		return errors.New("/dev/fuse is not there: load the kernel module fuse, or give the container the device")
	default:
		return fmt.Errorf("cannot use FUSE: %w", err)
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return errors.New("fusermount3 is missing, which users mount with: install the package fuse3")
	}
	if allowOther && !userAllowOther(fuseConf) {
		return fmt.Errorf("allow_other is for root, unless %s has a line user_allow_other", fuseConf)
	}
	return nil
}

// userAllowOther reports whether root permits users to use allow_other.
func userAllowOther(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}
