package superblock

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// made is how a tool makes something on a device of 64 MiB (320 MiB for xfs and
// btrfs), and what is to be seen of it.
var made = []struct {
	name string
	tool []string // the image's path comes last
	then []string // one more command, with the path in the place of "IMAGE"
	want Contents
	// size is what is seen of the file, of which the tools fill all; 0 is all.
	size int64
}{
	{name: "ext2", tool: []string{"mkfs.ext2", "-q", "-F", "-L", "second", "-U", ownUUID}, want: Contents{Use: Filesystem, Type: "ext2", UUID: ownUUID, Label: "second"}},
	{name: "ext3", tool: []string{"mkfs.ext3", "-q", "-F", "-U", ownUUID}, want: Contents{Use: Filesystem, Type: "ext3", UUID: ownUUID}},
	{name: "ext4", tool: []string{"mkfs.ext4", "-q", "-F", "-L", "sixteen letters!", "-U", ownUUID}, want: Contents{Use: Filesystem, Type: "ext4", UUID: ownUUID, Label: "sixteen letters!"}},
	{name: "ext4 without a journal", tool: []string{"mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-U", ownUUID}, want: Contents{Use: Filesystem, Type: "ext4", UUID: ownUUID}},
	{
		name: "ext4 with a journal to replay", tool: []string{"mkfs.ext4", "-q", "-F", "-U", ownUUID},
		then: []string{"debugfs", "-w", "-R", "feature needs_recovery", "IMAGE"},
		want: Contents{Use: Filesystem, Type: "ext4", UUID: ownUUID, Unclean: true},
	},
	{
		name: "ext4 with orphans", tool: []string{"mkfs.ext4", "-q", "-F", "-U", ownUUID},
		then: []string{"debugfs", "-w", "-R", "ssv last_orphan 12", "IMAGE"},
		want: Contents{Use: Filesystem, Type: "ext4", UUID: ownUUID, Orphans: true},
	},
	{
		name: "ext2 that was not unmounted", tool: []string{"mkfs.ext2", "-q", "-F", "-U", ownUUID},
		then: []string{"debugfs", "-w", "-R", "ssv state 0", "IMAGE"},
		want: Contents{Use: Filesystem, Type: "ext2", UUID: ownUUID, Unclean: true},
	},
	{name: "external journal", tool: []string{"mkfs.ext4", "-q", "-F", "-O", "journal_dev", "-U", ownUUID}, want: Contents{Use: Member, Type: "jbd", UUID: ownUUID}},
	{name: "xfs", tool: []string{"mkfs.xfs", "-q", "-L", "twelve chars", "-m", "uuid=" + ownUUID}, want: Contents{Use: Filesystem, Type: "xfs", UUID: ownUUID, Label: "twelve chars"}},
	{name: "btrfs", tool: []string{"mkfs.btrfs", "-q", "-L", "umlaut \u00e4", "-U", ownUUID}, want: Contents{Use: Filesystem, Type: "btrfs", UUID: ownUUID, Label: "umlaut \u00e4"}},
	{name: "FAT32", tool: []string{"mkfs.vfat", "-F", "32", "-i", "1234abcd", "-n", "STICK"}, want: Contents{Use: Filesystem, Type: "vfat", UUID: "1234-ABCD", Label: "STICK"}},
	{name: "FAT16", tool: []string{"mkfs.vfat", "-F", "16", "-i", "1234abcd"}, want: Contents{Use: Filesystem, Type: "vfat", UUID: "1234-ABCD"}},
	{name: "exfat", tool: []string{"mkfs.exfat", "-L", "a stick"}, then: []string{"exfatlabel", "-i", "IMAGE", "0xabcd1234"}, want: Contents{Use: Filesystem, Type: "exfat", UUID: "ABCD-1234", Label: "a stick"}},
	{name: "swap", tool: []string{"mkswap", "-q", "-L", "swp", "-U", ownUUID}, want: Contents{Use: Swap, Type: "swap", UUID: ownUUID, Label: "swp"}},
	{name: "LUKS1", tool: luksFormat("luks1"), want: Contents{Use: Encrypted, Type: "crypto_LUKS", UUID: ownUUID}},
	{name: "LUKS2", tool: append(luksFormat("luks2"), "--label", "secret"), want: Contents{Use: Encrypted, Type: "crypto_LUKS", UUID: ownUUID, Label: "secret"}},
	{name: "nothing", tool: []string{"touch"}, want: Contents{}},
	{name: "an empty device", tool: []string{"touch"}, size: 1, want: Contents{}},
}

const ownUUID = "0b5c1fa1-77e4-4c9b-8f52-1d5bd1c1f0aa"

func luksFormat(version string) []string {
	return []string{
		"cryptsetup", "luksFormat", "--batch-mode", "--type", version, "--uuid", ownUUID, "--key-file", "/dev/zero", "--keyfile-size", "32",
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
	}
}

// command runs a tool, which must be there.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	path := cmd.Path
	if !filepath.IsAbs(path) {
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				path = filepath.Join(dir, name)
			}
		}
	}
	if !filepath.IsAbs(path) {
		t.Skipf("needs the tool %s", name)
	}
	cmd.Path, cmd.Err = path, nil
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func TestProbeKnowsWhatToolsMake(t *testing.T) {
	for _, m := range made {
		t.Run(m.name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "image"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			size := int64(64 << 20)
			if m.name == "xfs" || m.name == "btrfs" {
				size = 320 << 20
			}
			if err := f.Truncate(size); err != nil {
				t.Fatal(err)
			}
			command(t, m.tool[0], append(m.tool[1:], f.Name())...)
			if m.then != nil {
				args := append([]string{}, m.then[1:]...)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "IMAGE", f.Name())
				}
				command(t, m.then[0], args...)
			}
			if m.size != 0 {
				size = m.size
			}
			got, err := Probe(f, size)
			if err != nil || got != m.want {
				t.Errorf("got %+v, %v, want %+v", got, err, m.want)
			}
		})
	}
}

// patched is a device of zeros with some bytes.
type patched map[int64]string

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for at, s := range p {
		for i := range len(s) {
			if j := at + int64(i) - off; j >= 0 && j < int64(len(b)) {
				b[j] = s[i]
			}
		}
	}
	return len(b), nil
}

const rawUUID = "\x0b\x5c\x1f\xa1\x77\xe4\x4c\x9b\x8f\x52\x1d\x5b\xd1\xc1\xf0\xaa"

// What the tools for are not everywhere: the bytes are those of the formats.
func TestProbeKnowsFormatsByTheirBytes(t *testing.T) {
	const size, sectors = 64 << 20, 64 << 11
	v10 := int64(sectors-16) << 9
	for name, c := range map[string]struct {
		bytes patched
		want  Contents
	}{
		"squashfs":  {patched{0: "hsqs"}, Contents{Use: Filesystem, Type: "squashfs"}},
		"erofs":     {patched{1024: erofsMagic, 1072: rawUUID, 1088: "vol"}, Contents{Use: Filesystem, Type: "erofs", UUID: ownUUID, Label: "vol"}},
		"f2fs":      {patched{1024: f2fsMagic, 1132: rawUUID, 1148: "f\x002\x00"}, Contents{Use: Filesystem, Type: "f2fs", UUID: ownUUID, Label: "f2"}},
		"iso9660":   {patched{32769: "CD001", 32808: "DISC    "}, Contents{Use: Filesystem, Type: "iso9660", Label: "DISC"}},
		"ntfs":      {patched{3: "NTFS    ", 72: "\x01\x02\x03\x04\x05\x06\x07\xab"}, Contents{Use: Filesystem, Type: "ntfs", UUID: "AB07060504030201"}},
		"BitLocker": {patched{3: "-FVE-FS-"}, Contents{Use: Encrypted, Type: "BitLocker"}},
		"LVM": {
			patched{512: "LABELONE", 536: "LVM2 001", 544: "abcdefghijklmnopqrstuvwxyz012345"},
			Contents{Use: Member, Type: "LVM2_member", UUID: "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"},
		},
		"RAID 1.2": {
			patched{4096: "\xfc\x4e\x2b\xa9\x01", 4112: rawUUID, 4128: "host:0", 4096 + 144: "\x08"},
			Contents{Use: Member, Type: "linux_raid_member", UUID: ownUUID, Label: "host:0"},
		},
		"mirror with its data first": {
			patched{v10: "\xfc\x4e\x2b\xa9\x01", v10 + 16: rawUUID, v10 + 144: "\xf0\xff\x01", 1024 + 0x38: "\x53\xef"},
			Contents{Use: Member, Type: "linux_raid_member", UUID: ownUUID},
		},
		"RAID 0.90":            {patched{size - 64<<10: "\xfc\x4e\x2b\xa9"}, Contents{Use: Member, Type: "linux_raid_member"}},
		"partition table":      {patched{0: "\xeb\x63\x90", 510: "\x55\xaa"}, Contents{}},
		"label that is no UTF": {patched{0: "XFSB", 108: "a\xffb"}, Contents{Use: Filesystem, Type: "xfs", Label: "a\uFFFDb"}},
	} {
		if got, err := Probe(c.bytes, size); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

type broken struct{}

var errBroken = errors.New("broken")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestProbeSaysWhatCannotBeRead(t *testing.T) {
	if c, err := Probe(broken{}, 1<<30); !errors.Is(err, errBroken) || c != (Contents{}) {
		t.Errorf("got %+v, %v, want the error of reading", c, err)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte("XFSB"), int64(0), int64(1<<20))
	f.Add([]byte("\xebX\x90EXFAT   "), int64(0), int64(1<<20))
	f.Add([]byte("\xfc\x4e\x2b\xa9\x01"), int64(4096), int64(1<<13))
	f.Add([]byte("\x53\xef"), int64(1024+0x38), int64(2048))
	f.Fuzz(func(t *testing.T, data []byte, at, size int64) {
		c, err := Probe(patched{at: string(data), 510: "\x55\xaa"}, size)
		if err != nil {
			t.Fatalf("got %v from a device that can be read", err)
		}
		if (c.Use == Nothing) != (c.Type == "") {
			t.Errorf("got %+v", c)
		}
	})
}
