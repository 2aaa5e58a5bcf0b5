package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/maint/device"
)

// completeMountpoint completes the mount point of a tree that is mounted, and, if named is
// true, the name of a datastore.
func (a *app) completeMountpoint(named bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words := briefly(cmd.Context(), func(context.Context) (words []string) {
			trees, err := mountpoint.Ours() // from the mount table: nothing is asked that may hang
			if err != nil {
				return nil
			}
			for _, m := range trees {
				if strings.HasPrefix(m.Point, word) {
					words = addWord(words, m.Point, m.Source)
				}
			}
			if named {
				words = append(words, a.datastoreWords(word)...)
			}
			return words
		})
		if len(words) == 0 { // it may be meant from the working directory
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeMount completes DATASTORE, if no device is given, and MOUNTPOINT; with --auto
// a device.
func (a *app) completeMount(o *mountOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case o.auto && len(args) == 0:
			return completeDevice(cmd, args, word)
		case o.auto:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case len(args) == 0 && o.device == "":
			return a.completeDatastore(cmd, args, word)
		case len(args) == 0, len(args) == 1 && o.device == "":
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDevice completes the UUID, the label or the path of a device.
func completeDevice(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	return briefly(cmd.Context(), func(context.Context) (words []string) {
		all, err := device.Devices()
		if err != nil {
			return nil
		}
		for _, d := range all {
			for _, w := range []string{d.UUID, d.Label, d.Path} {
				if strings.HasPrefix(w, word) {
					words = addWord(words, w, deviceWhat(d, w))
				}
			}
		}
		return words
	}), cobra.ShellCompDirectiveNoFileComp
}

// deviceWhat says what a device is that is called word.
func deviceWhat(d device.Device, word string) string {
	what := fmt.Sprintf("%s %s", orDash(d.Type), sizeText(d.Size))
	if word != d.Path {
		return d.Path + " " + what
	}
	if d.Label != "" {
		what += " " + d.Label
	}
	return what
}
