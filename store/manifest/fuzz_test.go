package manifest

import (
	"errors"
	"testing"

	"github.com/pbsfs/pbsfs/store/corrupt"
	"github.com/pbsfs/pbsfs/store/name"
)

func FuzzManifest(f *testing.F) {
	for _, text := range []string{
		full,
		withFiles(entry("a.blob", "none", 1), entry("a.blob", "none", 2), entry("../x.blob", "encrypt", -1)),
		withUnprotected(`{"notes":7,"key-fingerprint":"x","verify_state":{"state":"ok"}}`),
		`{}`, `[]`, `null`, `{"files":[null]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Decode(encode(plainMagic, text))
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatalf("error is not corrupt: %v", err)
			}
			return
		}
		seen := make(map[name.File]bool)
		for _, file := range m.Files {
			again, err := name.ParseFile(file.Name.String())
			if err != nil || again != file.Name || seen[file.Name] || file.Size < 0 || file.BlobMode() == 0 {
				t.Fatalf("unusable file %+v: %v", file, err)
			}
			seen[file.Name] = true
		}
		for _, err := range append(m.Problems, m.UnprotectedProblems...) {
			if !errors.Is(err, corrupt.Err) {
				t.Fatalf("problem is not corrupt: %v", err)
			}
		}
		if _, err := name.NewGroup(name.Namespace{}, m.Type, m.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := name.ParseTime(m.Time.String()); err != nil {
			t.Fatal(err)
		}
	})
}
