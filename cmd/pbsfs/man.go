package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/manual"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

// newManCommand makes the command that writes manual pages, for those who make packages.
func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the manual pages into a directory",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := a.versionDate()
			if err != nil {
				return err
			}
			return writeManual(args[0], a.manual(cmd.Root(), manual.About{Version: version(), Date: date}))
		},
	}
}

// manual returns the pages of all commands, and of the program by its other names.
func (a *app) manual(root *cobra.Command, about manual.About) []manual.Page {
	pages := manual.Pages(root, about)
	for _, name := range helperNames {
		pages = append(pages, manual.Of(newMountHelperCommand(a, name), about, "mount", "pbsfs-mount", "pbsfs-unmount", "umount"))
	}
	return pages
}

// versionDate returns the date that the pages bear: that of SOURCE_DATE_EPOCH, or of the
// commit.
func (a *app) versionDate() (string, error) {
	if text := a.getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return "", usage.Errorf("SOURCE_DATE_EPOCH %q: no number of seconds", text)
		}
		return time.Unix(seconds, 0).UTC().Format(time.DateOnly), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at.UTC().Format(time.DateOnly), nil
			}
		}
	}
	return "", nil
}

// writeManual writes pages into a directory, which is made if it is missing.
func writeManual(dir string, pages []manual.Page) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.Name), p.Text, 0o644); err != nil {
			return fmt.Errorf("writing the manual: %w", err)
		}
	}
	return nil
}
