package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/compare"
)

// flagWords returns the few words that a flag may have as its value.
func flagWords(command, flag string) []string {
	switch flag {
	case "overwrite":
		return []string{"never", "older", "changed", "always"}
	case "log":
		return []string{"journal", "syslog"}
	case "log-format":
		return []string{string(logText), string(logJSON)}
	case "role":
		return []string{"audit", "read", "admin"}
	case "format":
		return []string{formatPxar, formatSplit}
	case "crypt-mode":
		return []string{"none", "encrypt", "sign-only"}
	case "ignore":
		return compare.Aspects()
	case "type":
		if command == "find" {
			return []string{"f", "d", "l", "b", "c", "p", "s"}
		}
		return []string{"host", "vm", "ct"}
	}
	return nil
}

// isFileFlag and isDirFlag report whether the value of a flag is a file, or a directory.
func isFileFlag(flag string) bool {
	return slices.Contains([]string{"keyfile", "master-keyfile", "tls-cert", "tls-key", "token-file", "output", "to", "log"}, flag)
}

func isDirFlag(flag string) bool {
	return slices.Contains([]string{"config-dir", "run-dir", "disk-cache", "pbs-cache"}, flag)
}

// completeFlags gives each flag that has a value a completion, unless it has its own, and
// keeps shells from completing files where no argument is expected.
func completeFlags(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, own := cmd.GetFlagCompletionFunc(f.Name); own || f.NoOptDefVal != "" {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, flagCompletion(cmd.Name(), f.Name)) // it refuses only a second one
	})
	if cmd.ValidArgsFunction == nil && !strings.Contains(cmd.Use, " ") {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, c := range cmd.Commands() {
		completeFlags(c)
	}
}

// flagCompletion completes the value of a flag.
func flagCompletion(command, flag string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for _, w := range flagWords(command, flag) {
			if strings.HasPrefix(w, word) {
				words = append(words, w)
			}
		}
		switch {
		case isDirFlag(flag):
			return nil, cobra.ShellCompDirectiveFilterDirs
		case isFileFlag(flag):
			return words, cobra.ShellCompDirectiveDefault
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}
