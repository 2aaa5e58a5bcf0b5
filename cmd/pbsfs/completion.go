package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

const completionHelp = `Print a script that completes command lines of pbsfs, for bash, zsh or fish.

A package has installed it; without one, it goes here:
  bash  /usr/share/bash-completion/completions/pbsfs (needs the package
        bash-completion), or: source <(pbsfs completion bash)
  zsh   a directory of $fpath, as _pbsfs
  fish  ~/.config/fish/completions/pbsfs.fish

It completes commands and options, datastores by their names, the paths in a
datastore (namespaces, groups, snapshots, archives, and what is in them), mount
points and devices. Looking into a datastore is an operation that others see, as
that of ls. It takes a moment at most, reads metadata only, and asks for nothing:
what is encrypted, and what lies in a bucket, is not completed, and what cannot be
read is left out.`

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "print the script that completes command lines",
		Long:      completionHelp,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.printCompletion(cmd.Root(), args[0])
		},
	}
}

// printCompletion prints the script for a shell.
func (a *app) printCompletion(root *cobra.Command, shell string) (err error) {
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(a.stdout, true)
	case "zsh":
		err = root.GenZshCompletion(a.stdout)
	case "fish":
		err = root.GenFishCompletion(a.stdout, true)
	default:
		return usage.Errorf("completion: there is none for %q; say bash, zsh or fish", shell)
	}
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}
