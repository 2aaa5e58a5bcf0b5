package blob

import (
	"errors"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// CheckSealed checks what can be checked of an encrypted chunk without its key: header
// and CRC, and the length, unless the data was compressed before. want is the length of
// its data.
func CheckSealed(encoded []byte, want int) error {
	if want < 1 || want > MaxChunkSize {
		return corrupt.New("length %d is not from 1 to %d", want, MaxChunkSize)
	}
	_, err := parse(encoded, MustEncrypted, nil)
	if !errors.Is(err, ErrKeyNeeded) {
		return err
	}
	kind, err := ReadKind(encoded)
	if err != nil {
		return err
	}
	if n := len(encoded) - kind.headerSize(); kind == Encrypted && n != want {
		return corrupt.New("encrypted chunk holds %d bytes, its index says %d", n, want)
	}
	return nil
}
