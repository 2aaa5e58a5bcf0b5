package mountpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOneCommandAtATimeMountsOnADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil { // which nobody else can open: root waits, too
		t.Fatal(err)
	}
	first, err := Acquire(t.Context(), dir)
	if err != nil || first == nil {
		t.Fatalf("locking: %v, %v", first, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockRetry)
	defer cancel()
	if l, err := Acquire(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locking what is locked: %v, %v", l, err)
	}
	time.AfterFunc(lockRetry, first.Release)
	second, err := Acquire(t.Context(), dir)
	if err != nil || second == nil {
		t.Fatalf("locking what is unlocked meanwhile: %v, %v", second, err)
	}
	second.Release()
	if l, err := Acquire(t.Context(), filepath.Join(dir, "none")); l != nil || err != nil {
		t.Errorf("a directory that is not there: %v, %v; mounting says what is wrong", l, err)
	}
	(*Lock)(nil).Release()
}
