package store

import (
	"testing"

	"github.com/pbsfs/pbsfs/store/keys"
)

// A key that nobody named opens what names it, and is not tried on anything else.
func TestOfferedKeysAreForWhatNamesThem(t *testing.T) {
	var list []*keys.Key
	for i := range 3 {
		k, err := keys.New([32]byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	named, offered, other := list[0], list[1], list[2]
	r := newKeyring([]*keys.Key{named}, []*keys.Key{offered}, nil)
	for what, c := range map[string]struct {
		ring  *keyring
		fp    keys.Fingerprint
		known bool
		want  *keys.Key
	}{
		"named":                    {r, named.Fingerprint(), true, named},
		"offered":                  {r, offered.Fingerprint(), true, offered},
		"another":                  {r, other.Fingerprint(), true, nil},
		"not known":                {r, keys.Fingerprint{}, false, named},
		"not known, offered alone": {newKeyring(nil, []*keys.Key{offered}, nil), keys.Fingerprint{}, false, nil},
	} {
		if got := c.ring.find(c.fp, c.known); got != c.want {
			t.Errorf("%s: got %v, want %v", what, got, c.want)
		}
	}
}
