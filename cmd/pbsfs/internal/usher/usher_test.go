package usher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/fs"
	"github.com/pbsfs/pbsfs/maint/mounts"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// code tells one failure from others.
func code(err error) int {
	if errors.Is(err, store.ErrNotDatastore) {
		return 7
	}
	return 1
}

func within(t *testing.T, point string) *Usher {
	t.Helper()
	u, err := Within(context.Background(), Options{Host: storetest.Host(t, ""), Mountpoint: point, Code: code, Answers: []string{"/bin/false"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// Whatever the serving process asks for, it gets nothing but what its own mount needs.
func TestUsherDoesNothingForOtherMounts(t *testing.T) {
	point, other := t.TempDir(), t.TempDir()
	u, ctx := within(t, point), t.Context()
	if _, err := u.Mount(ctx, fs.Wanted{Point: other, Source: "/"}); err == nil || !strings.Contains(err.Error(), "not where the tree") {
		t.Errorf("a mount elsewhere: got %v", err)
	}
	table, err := mounts.Mounts()
	if err != nil || len(table) == 0 {
		t.Fatal(err)
	}
	for _, m := range table {
		if strings.HasSuffix(m.FSType, fs.TypeName) {
			continue
		}
		forged := m
		forged.FSType = "fuse." + fs.TypeName
		for _, m := range []mounts.Mount{m, forged} {
			if err := u.Unmount(ctx, m, false); err == nil {
				t.Fatalf("it has unmounted %s", m.Point)
			}
			if err := u.Settle(ctx, m); err == nil {
				t.Fatalf("it has changed %s", m.Point)
			}
		}
	}
	if now, err := mounts.Mounts(); err != nil || len(now) != len(table) {
		t.Errorf("%d mounts, %v, want %d", len(now), err, len(table))
	}
}

// An error keeps its exit code and its text, and paths keep their bytes.
func TestUsherAttaches(t *testing.T) {
	u, ctx := within(t, t.TempDir()), t.Context()
	_, err := u.Attach(ctx, Attach{Request: locate.Request{Datastore: t.TempDir()}})
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != 7 || !strings.Contains(failed.Text, ".chunks") {
		t.Errorf("what is no datastore: got %#v", err)
	}
	odd := filepath.Join(t.TempDir(), "\xff,\\\n")
	if err := os.Rename(storetest.New(t).Dir, odd); err != nil {
		t.Fatal(err)
	}
	at, err := u.Attach(ctx, Attach{Request: locate.Request{Datastore: odd}})
	if err != nil || at.Path != odd || at.Device || at.There {
		t.Errorf("got %+v, %v, want %q", at, err, odd)
	}
	if _, err := u.Attach(ctx, Attach{Request: locate.Request{Datastore: odd}}); err == nil {
		t.Error("attached twice")
	}
	if err := u.Ask(ctx, 1e9); err == nil {
		t.Error("the tree, which is not there, answers")
	}
}

func TestBusyIsBusy(t *testing.T) {
	if !errors.Is(failure(unix.EBUSY, code), unix.EBUSY) || errors.Is(failure(unix.EIO, code), unix.EBUSY) || failure(nil, code) != nil {
		t.Error("EBUSY is not told from others")
	}
}

// Who asks when the usher is gone, or is asking when it goes, gets an answer.
func TestUsherThatEnds(t *testing.T) {
	u := within(t, t.TempDir())
	u.Close()
	if err := u.FreeConfigLock(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
}
