package unlock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Root is offered the keys that a server keeps beside its configuration: those
// that open without being asked for a passphrase.
func TestOfferedKeys(t *testing.T) {
	k, stderr := emptyRing(t, t.TempDir())
	k.ServerKeys = filepath.Join(t.TempDir(), "encryption-keys")
	if s, err := k.Open(t.Context(), Options{}); err != nil || !s.Empty() {
		t.Fatalf("without any: %+v, %v", s, err)
	}
	dir := k.ServerKeys
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"one.enc": openKey, "sealed.enc": lockedKey, "bad.enc": "{", "one.txt": openKey} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.enc"), 0o600); err != nil { // which nobody writes to
		t.Fatal(err)
	}
	s, err := k.Open(t.Context(), Options{})
	if err != nil || len(s.Offered) != 1 || len(s.Keys) != 0 || s.Empty() {
		t.Errorf("got %+v, %v, want one that is offered", s, err)
	}
	if got := stderr.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "bad.enc") || !strings.Contains(got, "pipe.enc: not a regular file") {
		t.Errorf("stderr %q, want warnings of the bad one and of the pipe alone", got)
	}
}
