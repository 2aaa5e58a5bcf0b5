package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUserAllowOtherIsALineOfItsOwn(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                    false,
		"#user_allow_other\n":                 false,
		"# x\nuser_allow_other\n":             true,
		"mount_max = 5\n  user_allow_other  ": true,
		"user_allow_other_things\n":           false,
	} {
		file := filepath.Join(t.TempDir(), "fuse.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := userAllowOther(file); got != want {
			t.Errorf("userAllowOther of %q = %v, want %v", text, got, want)
		}
	}
	if userAllowOther(filepath.Join(t.TempDir(), "missing")) {
		t.Error("userAllowOther of a missing file = true")
	}
}
