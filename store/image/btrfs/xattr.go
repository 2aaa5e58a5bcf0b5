package btrfs

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/pbsfs/pbsfs/store/image"
)

const maxXattrs = 8 << 20 // bytes of names and values of an object

// Xattrs returns the attributes as listxattr(2) and getxattr(2) show them to root; so they are stored,
// ACLs too.
func (f *FS) Xattrs(r io.ReaderAt, number uint64) ([]image.Xattr, error) {
	o, err := f.object(number)
	if err != nil || o.vacant {
		return nil, err
	}
	i, err := f.inode(r, number)
	if err != nil {
		return nil, err
	}
	var all []image.Xattr
	wrong := damage{max: maxDamage}
	seen, total := map[string]struct{}{}, 0
	f.scan(r, i.tree, key{i.object, xattrItem, 0}, key{i.object, xattrItem, math.MaxUint64}, &wrong, func(_ key, p []byte) bool {
		if total += len(p); total > maxXattrs {
			wrong.add(fmt.Errorf("btrfs object %d has more than %d bytes of attributes: %w", i.object, maxXattrs, image.ErrUnsupported))
			return false
		}
		items, reason := parseDirItems(p)
		if reason != "" {
			wrong.add(i.wrong("attributes: %s", reason))
		}
		for _, x := range items {
			_, twice := seen[x.name]
			if twice || x.kind != typeXattr || x.name == "" || len(x.name) > maxName || strings.Contains(x.name, "\x00") {
				wrong.add(i.wrong("impossible attribute %q", x.name))
				continue
			}
			seen[x.name] = struct{}{}
			all = append(all, image.Xattr{Name: x.name, Value: bytes.Clone(x.value)})
		}
		return !wrong.tooMuch()
	})
	slices.SortFunc(all, func(a, b image.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all, wrong.err()
}
