package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manualPages writes the pages as the command does, and returns their directory.
func manualPages(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "man")
	env := func(name string) string {
		if name == "SOURCE_DATE_EPOCH" {
			return "1795132800"
		}
		return ""
	}
	cmd := newRootCommand(&app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, getenv: env})
	cmd.SetArgs([]string{"man", dir})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rendered returns what a page shows, without blanks: lines are filled anew.
func rendered(t *testing.T, page string) string {
	t.Helper()
	if lint, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput(); err != nil || len(lint) > 0 {
		t.Errorf("mandoc: %v\n%s", err, lint)
	}
	out, err := exec.Command("mandoc", "-T", "utf8", "-O", "width=200", page).Output()
	if err != nil {
		t.Fatal(err)
	}
	var plain []rune
	for _, r := range string(out) {
		if r == '\b' { // bold and underlined text is printed twice
			plain = plain[:len(plain)-1]
		} else {
			plain = append(plain, r)
		}
	}
	return unspaced(string(plain))
}

func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }

func TestEachCommandHasAManualPageThatSaysItAll(t *testing.T) {
	dir := manualPages(t)
	pages := 0
	says := func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		pages++
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".8"
		shown := rendered(t, filepath.Join(dir, name))
		for _, part := range []string{cmd.Short, cmd.Long, "2026-11-20"} {
			if !strings.Contains(shown, unspaced(part)) {
				t.Errorf("%s does not say: %s", name, part)
			}
		}
		check := func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			_, usage := pflag.UnquoteUsage(f)
			if !strings.Contains(shown, "--"+f.Name) || !strings.Contains(shown, unspaced(usage)) {
				t.Errorf("%s does not tell about --%s", name, f.Name)
			}
		}
		cmd.LocalFlags().VisitAll(check)
		cmd.InheritedFlags().VisitAll(check)
	}
	each(newRootCommand(&app{}), says)
	for _, name := range helperNames {
		says(newMountHelperCommand(&app{}, name))
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != pages || pages < 20 {
		t.Errorf("%d pages for %d commands, %v", len(files), pages, err)
	}
}

// man(1) of a Debian has another formatter, and its index wants the line after NAME.
func TestManReadsThePages(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(manualPages(t), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v: %s", filepath.Base(page), err, complaints.String())
		}
	}
	if out, err := exec.Command("lexgrog", pages...).CombinedOutput(); err != nil {
		t.Errorf("lexgrog: %v\n%s", err, out)
	}
}
