package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestMountHelperNames(t *testing.T) {
	for name, want := range map[string]bool{
		"/sbin/mount.pbsfs": true, "mount.fuse.pbsfs": true, "pbsfs": false, "/usr/bin/pbsfs": false, "umount.pbsfs": false, "": false,
	} {
		if got := isMountHelper(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}

// What mount(8) asks for becomes a mount command.
func TestMountHelperArguments(t *testing.T) {
	for _, c := range []struct {
		spec, words string
		want        []string
		fail        string
	}{
		{"tank", "ro", []string{"-o", "ro", "--", "tank", "/mnt"}, ""},
		{"/srv/store", "ro,uid=5", []string{"-o", "ro,uid=5", "--", "/srv/store", "/mnt"}, ""},
		{"pbsfs#srv", "", []string{"-o", "", "--", "srv", "/mnt"}, ""},
		{"s3://b/tank", "endpoint=x", []string{"-o", "endpoint=x", "--", "s3://b/tank", "/mnt"}, ""},
		{"UUID=1-2", "path=store", []string{"-o", "path=store", "--device", "UUID=1-2", "--", "/mnt"}, ""},
		{"LABEL=DISK", "", []string{"-o", "", "--device", "LABEL=DISK", "--", "/mnt"}, ""},
		{"/dev/null", "", []string{"-o", "", "--device", "/dev/null", "--", "/mnt"}, ""},
		{"none", "device=1-2", []string{"-o", "device=1-2", "--", "/mnt"}, ""},
		{"tank", "device=1-2", nil, "device="},
		{"-f", "", []string{"-o", "", "--", "-f", "/mnt"}, ""},
	} {
		got, err := helperArgs(c.spec, "/mnt", splitOptions(c.words))
		if c.fail != "" {
			if exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s -o %s: got %v, want a usage error with %q", c.spec, c.words, err, c.fail)
			}
			continue
		}
		if want := append([]string{"mount", "--again"}, c.want...); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s -o %s: got %q and %v, want %q", c.spec, c.words, got, err, want)
		}
	}
}

// The helper refuses what cannot be, before anything is mounted.
func TestMountHelperRefusals(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"tank /mnt -f", exitDone, ""},
		{"tank /mnt -sfnv -o rw,nofail,_netdev,noauto,user,x-systemd.automount", exitDone, ""},
		{"tank /mnt -f -t pbsfs -o rw", exitDone, ""},
		{"tank /mnt -f -o nosuch", exitUsage, "unknown mount option nosuch"},
		{"tank /mnt -sf -o nosuch,ro", exitDone, ""},
		{"tank /mnt -sf -o cache_size=x", exitUsage, "no size"},
		{"tank /mnt -f -o suid", exitUsage, "not possible"},
		{"tank /mnt -f -N /proc/1/ns/mnt", exitUsage, "nsenter --mount="},
		{"tank -f", exitUsage, "usage: mount.pbsfs SPEC DIR"},
		{"tank /mnt more", exitUsage, "usage: mount.pbsfs SPEC DIR"},
		{"tank /mnt -x", exitUsage, "unknown shorthand"},
		{"tank /nowhere -o remount", exitFailed, "no tree is mounted on /nowhere"},
	} {
		a, stdout, stderr := newApp(t, "")
		cmd := newMountHelperCommand(a, "/sbin/mount.pbsfs")
		cmd.SetArgs(strings.Fields(c.args))
		if code := a.report(cmd.ExecuteContext(t.Context())); code != c.code || !strings.Contains(stderr.String(), c.stderr) || stdout.Len() > 0 {
			t.Errorf("mount.pbsfs %s: got %d, %q and %q; want %d and %q", c.args, code, stdout, stderr, c.code, c.stderr)
		}
	}
}

func TestMountCodes(t *testing.T) {
	for _, c := range []struct {
		code        int
		interrupted bool
		want        int
	}{
		{exitDone, false, 0},
		{exitDone, true, 0},
		{exitUsage, false, 1},
		{exitFailed, true, 8},
		{exitFailed, false, 32},
		{exitActive, false, 32},
		{exitMode, false, 32},
		{exitDamaged, false, 32},
		{exitKey, false, 32},
	} {
		if got := mountCode(c.code, c.interrupted); got != c.want {
			t.Errorf("%d, interrupted %t: got %d, want %d", c.code, c.interrupted, got, c.want)
		}
	}
}
