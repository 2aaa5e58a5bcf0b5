// Package identity tells one datastore from all others, whatever it is called and
// wherever it is mounted.
//
// A path says little: one datastore has many, by symbolic links, bind mounts and
// further mounts of its disk, and one path can lead to another datastore tomorrow.
// So a datastore is the device and inode of its directory of chunks, and one on a
// disk that comes and goes also its place on the file system of that UUID. This
// package only compares; it looks at nothing.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ID is what is known of which datastore it is. The zero ID is nothing.
type ID struct {
	// Dev and Ino are those of its directory of chunks; Ino is 0 where it was
	// not seen.
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
	// Disk names what a file system lies on that has the number of its device: one
	// disk can be shown by several devices. "" for others.
	Disk string `json:"disk,omitempty"`
	// UUID is the file system's, "" where it is not known.
	UUID string `json:"uuid,omitempty"`
	// Path is the datastore's directory, from the top of its file system.
	Path string `json:"path,omitempty"`
}

// IsZero reports whether nothing is known.
func (a ID) IsZero() bool { return a == ID{} }

// Seen reports whether the datastore itself was seen, and not only told of.
func (a ID) Seen() bool { return a.Ino != 0 }

// Same reports whether both are known to be one datastore.
//
// Where both were seen, only what was seen counts: a copy of a disk has the
// UUID of the original, and is another disk.
func (a ID) Same(b ID) bool {
	switch {
	case a.UUID != "" && b.UUID != "" && !strings.EqualFold(a.UUID, b.UUID):
		return false // the number of a device that has gone is given to the next one
	case a.Seen() && b.Seen() && a.Dev == b.Dev:
		return a.Ino == b.Ino
	case a.Seen() && b.Seen():
		return a.Disk != "" && a.Disk == b.Disk && a.Ino == b.Ino
	}
	return a.UUID != "" && b.UUID != "" && a.Path != "" && a.Path == b.Path
}

// Differs reports whether both are known to be two datastores. Of two IDs that say
// too little neither Same nor Differs holds.
func (a ID) Differs(b ID) bool {
	if a.Same(b) {
		return false
	}
	return a.Seen() && b.Seen() || a.UUID != "" && b.UUID != "" && a.Path != "" && b.Path != ""
}

// Sum is a short text that is the same for each way to a datastore that is seen,
// 8 hexadecimal digits; "" where it is not.
func (a ID) Sum() string {
	if !a.Seen() {
		return ""
	}
	text := fmt.Sprintf("%d %d", a.Dev, a.Ino)
	if a.Disk != "" {
		text = fmt.Sprintf("%s %d", a.Disk, a.Ino)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
