package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docCommand is a command of a documentation page, and what the page shows of its output.
type docCommand struct {
	line, shows string
}

// docCommands returns the commands of the marked blocks of a page, in order. What follows a
// command, up to the next one, is its output; "..." in it stands for anything.
func docCommands(t *testing.T, page string) (out []docCommand) {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	inside := false
	for line := range strings.Lines(string(text)) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			if !inside && line != "```console demo\n" {
				t.Errorf("%s: a block that is not run: %s", page, line)
			}
			inside = !inside
		case !inside:
		case isCommand:
			out = append(out, docCommand{line: strings.TrimSuffix(command, "\n")})
		case len(out) == 0:
			t.Errorf("%s: a block begins with %q", page, line)
		default:
			out[len(out)-1].shows += line
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no commands", page)
	}
	return out
}

// pattern returns what the output of the command must be.
func (c docCommand) pattern() *regexp.Regexp {
	if c.shows == "...\n" {
		return regexp.MustCompile("")
	}
	parts := strings.Split(c.shows, "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`)
}

// Each command of the guide does on the demo's datastore what the guide says.
func TestGuideIsTrue(t *testing.T) {
	needLoop(t)
	needTool(t, "curl")
	h := newHost(t)
	dir := newDemo(t, h)
	h.run("demo", dir).want(t, 0)
	disk := diskWith(t, filepath.Join(dir, "store"))
	for _, c := range docCommands(t, "../docs/guide.md") {
		cmd := exec.Command("sh", "-c", c.line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PBSFS_CONFIG_DIR="+dir+"/etc", "PBSFS_RUN_DIR="+dir+"/run", "DISK="+disk,
			"PATH="+dir+"/bin:"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+dir+"/etc", "XDG_CACHE_HOME="+dir+"/cache", "LC_ALL=C")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("$ %s\n%v\n%s%s", c.line, err, &stdout, &stderr)
		} else if !c.pattern().MatchString(stdout.String()) {
			t.Errorf("$ %s\ngot:\n%s%s\nthe guide shows:\n%s", c.line, &stdout, &stderr, c.shows)
		}
	}
	h.run("demo", "--clean", dir).want(t, 0)
	noDemo(t, dir)
}

// diskWith makes a device that has a copy of a datastore in its directory "store".
func diskWith(t *testing.T, store string) string {
	t.Helper()
	base := tempDir(t)
	tool(t, "cp", "-a", store, filepath.Join(subdir(t, base, "top"), "store"))
	// Of the 65536 directories for chunks, most are empty, and take mkfs minutes.
	tool(t, "find", filepath.Join(base, "top/store/.chunks"), "-mindepth", "1", "-type", "d", "-empty", "-delete")
	file := filepath.Join(base, "disk")
	tool(t, "truncate", "-s", "64M", file)
	tool(t, "mkfs.ext4", "-q", "-F", "-d", filepath.Join(base, "top"), file)
	return loopDevice(t, file, 0, 0)
}
