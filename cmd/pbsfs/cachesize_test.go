package main

import (
	"strings"
	"testing"
)

func TestDefaultCacheIsABoundedShare(t *testing.T) {
	for memory, want := range map[int64]byteSize{
		0: 64 << 20, 1 << 29: 64 << 20, 1 << 30: 64 << 20, 2 << 30: 128 << 20, 8 << 30: 512 << 20, 32 << 30: 2 << 30, 1 << 40: 2 << 30,
	} {
		if got := cacheOf(memory); got != want {
			t.Errorf("%d bytes of memory: got %s, want %s", memory, got.String(), want.String())
		}
	}
}

// The help is the same on every machine, and what is given wins.
func TestCacheSizeOption(t *testing.T) {
	a, stdout, _ := newApp(t, "")
	if code := a.run(t, "mount", "--help"); code != exitDone || !strings.Contains(stdout.String(), "(default "+defaultCacheText+")") {
		t.Errorf("mount --help: exit code %d, and no %q in it", code, defaultCacheText)
	}
	f := newMountCommand(a).Flags().Lookup("cache-size")
	if want := defaultCache(); f.Value.String() != want.String() {
		t.Errorf("without the option: got %s, want %s", f.Value, want.String())
	}
	if err := f.Value.Set("3MiB"); err != nil || f.Value.String() != "3MiB" {
		t.Errorf("--cache-size 3MiB: got %s, %v", f.Value, err)
	}
}
