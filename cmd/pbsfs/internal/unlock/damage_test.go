package unlock

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/pbsfs/pbsfs/store/keys"
	"github.com/pbsfs/pbsfs/store/storetest"
)

// A damaged key file gives the key that it has, or is an error of keys, for which nothing is
// mounted; it never gives a key that nobody has made.
func TestDamagedKeyFiles(t *testing.T) {
	t.Setenv("PBS_ENCRYPTION_PASSWORD", "")
	raw, other := [32]byte(bytes.Repeat([]byte{5}, 32)), [32]byte(bytes.Repeat([]byte{6}, 32))
	text, err := keys.NewFile(raw, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	otherText, err := keys.NewFile(other, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file, like := write(t, "key.json", string(text)), write(t, "other.json", string(otherText))
	ring := &Keyring{Stderr: io.Discard, Getenv: func(string) string { return "" }}
	refused := 0
	for _, d := range storetest.Damages() {
		if d.Name == "fifo" {
			continue // a key may come from a pipe, and is waited for
		}
		undo, possible, err := d.Do(file, like, false, false)
		if err != nil {
			t.Fatal(err)
		}
		if !possible {
			continue
		}
		got, err := ring.OpenFile(t.Context(), file, &Passphrases{})
		replaced := d.Name == "another file" || d.Name == "swapped"
		switch {
		case err != nil && kindOf(err) != wrongKey:
			t.Errorf("%s: %v, want an error of keys", d.Name, err)
		case err != nil:
			refused++
		case got != raw && (got != other || !replaced):
			t.Errorf("%s: gives another key", d.Name)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 10 {
		t.Errorf("only %d damaged files were refused", refused)
	}
	if got, err := ring.OpenFile(t.Context(), file, &Passphrases{}); err != nil || got != raw {
		t.Errorf("afterwards: %v", err)
	}
}
