package keys

import (
	"testing"
	"time"
)

func TestANewKeyFileIsRead(t *testing.T) {
	raw := [32]byte{1, 2, 3, 31: 32}
	k, err := New(raw)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	text, err := NewFile(raw, made)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	got, err := f.Open(nil)
	if err != nil || got != raw {
		t.Errorf("key %x, %v, want %x", got, err, raw)
	}
	fp, ok := f.Fingerprint()
	if !ok || fp != k.Fingerprint() || f.KDF() != "none" || f.Created != "2026-11-20T10:00:00Z" || f.Modified != f.Created {
		t.Errorf("fingerprint %v, %v, kdf %q, created %q, modified %q", fp, ok, f.KDF(), f.Created, f.Modified)
	}
}
