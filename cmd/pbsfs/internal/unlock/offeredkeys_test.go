package unlock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	s, err := k.Open(t.Context(), Options{})
	if err != nil || len(s.Offered) != 1 || len(s.Keys) != 0 || s.Empty() {
		t.Errorf("got %+v, %v, want one that is offered", s, err)
	}
	if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "bad.enc") {
		t.Errorf("stderr %q, want a warning of the bad one alone", got)
	}
}
