package maint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pbsfs/pbsfs/maint/cfg"
)

func TestDatastores(t *testing.T) {
	p := newPlace(t)
	p.writeConfig(t, "datastore: tank\n\tpath /srv/tank\n\tcomment two words\n\nsync: s\n\tx y\n\n"+
		"datastore: usb\n\tpath pbs/store\n\tbacking-device 1234-ABCD\n\tmaintenance-mode read-only,message=x\n\n"+
		"datastore: cloud\n\tpath /cache\n\tbackend type=s3,client=c,bucket=b\n")
	got, err := Datastores(p.host)
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if d := got[0]; d.Dir() != "/srv/tank" || d.Comment != "two words" || d.Backend != "filesystem" || d.Removable() || d.File != p.host.ConfigFiles()[0] {
		t.Errorf("got %+v", d)
	}
	if d := got[1]; d.Dir() != "/mnt/datastore/usb" || !d.Removable() || d.Mode.Type != cfg.ReadOnly || d.Mode.Message != "x" {
		t.Errorf("got %+v", d)
	}
	if d := got[2]; !d.S3() {
		t.Errorf("got %+v", d)
	}
}

func TestAddAndRemoveDatastore(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	if err := os.Remove(filepath.Join(p.dir, "etc/datastore.cfg")); err != nil {
		t.Fatal(err)
	}
	add := func(d cfg.Datastore) {
		t.Helper()
		if err := AddDatastore(ctx, p.host, d); err != nil {
			t.Fatal(err)
		}
	}
	add(cfg.Datastore{Name: "tank", Path: "/srv/tank"})
	add(cfg.Datastore{Name: "usb", Path: "store", BackingDevice: "1234-ABCD", Comment: "red disk"})
	const both = "datastore: tank\n\tpath /srv/tank\n\ndatastore: usb\n\tpath store\n\tbacking-device 1234-ABCD\n\tcomment red disk\n"
	if got := p.config(t); got != both {
		t.Errorf("got %q, want %q", got, both)
	}
	if err := AddDatastore(ctx, p.host, cfg.Datastore{Name: "tank", Path: "/y"}); !errors.Is(err, ErrExists) {
		t.Errorf("add again: %v", err)
	}
	for _, bad := range []cfg.Datastore{{Name: "x", Path: "/x"}, {Name: "a/b", Path: "/x"}, {Name: "abc"}, {Name: "abc", Path: "rel"}, {Name: "abc", Path: "/x\n\ty"}, {Name: "abc.lock", Path: "/x"}, {Name: "abc", Path: "x", BackingDevice: "a b"}} {
		if err := AddDatastore(ctx, p.host, bad); err == nil {
			t.Errorf("%+v was added", bad)
		}
	}
	g := begin(t, p.operations(t, nil), cfg.Read)
	if err := RemoveDatastore(ctx, p.host, "tank"); !errors.Is(err, ErrConflict) {
		t.Errorf("remove while active: %v", err)
	}
	g.Release()
	if err := RemoveDatastore(ctx, p.host, "usb"); err != nil {
		t.Error(err)
	}
	if err := RemoveDatastore(ctx, p.host, "usb"); !errors.Is(err, cfg.ErrNotConfigured) {
		t.Errorf("remove again: %v", err)
	}
	if got := p.config(t); got != "datastore: tank\n\tpath /srv/tank\n\n" {
		t.Errorf("got %q", got)
	}
}
