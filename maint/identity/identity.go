// Package identity tells one datastore from all others, whatever its name and wherever
// it is mounted.
//
// A path is not enough: symbolic links, bind mounts and further mounts of a disk give
// one datastore many paths, and one path can lead to another datastore tomorrow. So a
// datastore is identified by the device and inode of its directory of chunks. A
// datastore on a removable disk is also identified by its path on the file system with
// that UUID. This package only compares; it does not look at any file.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ID is what is known of a datastore's identity. The zero ID says nothing.
type ID struct {
	// Dev and Ino are those of the directory of chunks; Ino is 0 if that was not seen.
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
	// Disk names the disk below a file system that has the disk's device number:
	// several devices can show one disk. It is "" for other file systems.
	Disk string `json:"disk,omitempty"`
	// UUID is the file system's, "" if it is not known.
	UUID string `json:"uuid,omitempty"`
	// Path is the datastore's directory, from the top of its file system.
	Path string `json:"path,omitempty"`
}

// IsZero reports whether nothing is known.
func (a ID) IsZero() bool { return a == ID{} }

// Seen reports whether the datastore itself was seen, and is not only known from an
// entry.
func (a ID) Seen() bool { return a.Ino != 0 }

// Same reports whether both are known to be one datastore.
//
// If both were seen, only what was seen counts: a copy of a disk has the UUID of the
// original, but it is another disk.
func (a ID) Same(b ID) bool {
	switch {
	case a.UUID != "" && b.UUID != "" && !strings.EqualFold(a.UUID, b.UUID):
		return false // the kernel gives the device number of a removed disk to the next one
	case a.Seen() && b.Seen() && a.Dev == b.Dev:
		return a.Ino == b.Ino
	case a.Seen() && b.Seen():
		return a.Disk != "" && a.Disk == b.Disk && a.Ino == b.Ino
	}
	return a.UUID != "" && b.UUID != "" && a.Path != "" && a.Path == b.Path
}

// Differs reports whether both are known to be two datastores. If two IDs say too
// little, both Same and Differs are false.
func (a ID) Differs(b ID) bool {
	if a.Same(b) {
		return false
	}
	return a.Seen() && b.Seen() || a.UUID != "" && b.UUID != "" && a.Path != "" && b.Path != ""
}

// Sum returns a short text, 8 hexadecimal digits, that is the same on every path to a
// datastore that was seen; "" if it was not seen.
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
