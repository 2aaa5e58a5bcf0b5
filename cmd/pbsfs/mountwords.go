package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// The list of -o, as fstab has it, can say everything that the flags of a command say.

// splitOptions splits a list at its commas, except those between double quotes. The
// options keep their quotes.
func splitOptions(list string) []string {
	quoted := false
	return strings.FieldsFunc(list, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

// The hidden flags with which the mount helper calls the mount command.
const (
	againFlag = "again"
	fakeFlag  = "fake"
)

// notWords are flags that are no words of a list.
var notWords = []string{"options", "foreground", "auto", "help", againFlag, fakeFlag}

// flagOf returns the flag that a word names, nil if there is none.
func flagOf(flags *pflag.FlagSet, key string) *pflag.Flag {
	name := strings.ReplaceAll(key, "_", "-")
	if slices.Contains(notWords, name) {
		return nil
	}
	return flags.Lookup(name)
}

// setFlag sets the flag that a word names.
func setFlag(flags *pflag.FlagSet, word string) error {
	key, value, hasValue := strings.Cut(word, "=")
	if len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
		value = value[1 : len(value)-1]
	}
	if isPasswordWord(key) {
		return setPassword(flags, key, value)
	}
	f := flagOf(flags, key)
	if f == nil {
		return fmt.Errorf("unknown mount option %s", word)
	}
	switch {
	case f.NoOptDefVal != "" && hasValue:
		return fmt.Errorf("mount option %s: it takes no value", word)
	case f.NoOptDefVal != "":
		value = f.NoOptDefVal
	case value == "":
		return fmt.Errorf("mount option %s: it needs a value: %s=VALUE", word, key)
	}
	if err := f.Value.Set(value); err != nil {
		return fmt.Errorf("mount option %s: %w", word, err)
	}
	f.Changed = true
	return nil
}

// isPasswordWord reports whether a word says where the passphrase of the key before it
// is: a comma separates the two, as in the argument of --keyfile.
func isPasswordWord(key string) bool {
	name := strings.ReplaceAll(key, "_", "-")
	return name == "password-file" || name == "password-cmd"
}

// setPassword adds where its passphrase is to the last key file.
func setPassword(flags *pflag.FlagSet, key, value string) error {
	files, ok := flags.Lookup("keyfile").Value.(pflag.SliceValue)
	if !ok || len(files.GetSlice()) == 0 {
		return fmt.Errorf("mount option %s: it belongs after keyfile=FILE", key)
	}
	all := files.GetSlice()
	all[len(all)-1] += "," + strings.ReplaceAll(key, "_", "-") + "=" + value
	return files.Replace(all)
}
