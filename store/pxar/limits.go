package pxar

// What the decoder accepts at most (reference "pxar", sections 1 and 9). The
// attributes of one entry have no limit of their own: those on extended
// attributes and ACL entries, and the items that may occur once, bound it to
// less than 5 MiB.
const (
	maxDepth      = 1024     // directories above an entry
	maxPath       = 64 << 10 // bytes of a directory's path, slashes included
	maxName       = 255      // longer ones are no names for the kernel
	maxTarget     = 4096     // bytes of a symbolic link's target
	maxPrelude    = 1 << 20
	maxChildren   = 16 << 20
	maxSameHash   = 16 // children of one directory with one hash
	maxLinked     = 16 << 20
	maxXattr      = 65791                        // content of one XATTR or FCAPS item
	maxXattrs     = 64 << 10 / len("user.n\x00") // as many as fit in a list for the kernel
	maxXattrBytes = 4 << 20
	maxACL        = 1024
)

// What things need at least.
const (
	headerSize    = 16
	statSize      = 40
	statV1Size    = 32
	minEntry      = headerSize + statV1Size
	minName       = headerSize + 2
	minHardlink   = headerSize + 8 + 1
	minChild      = minName + minHardlink // the smallest thing with a name
	tableItemSize = 24
	minGoodbye    = headerSize + tableItemSize
)

// maxHardlink is the largest HARDLINK item: offset and path.
const maxHardlink = headerSize + 8 + maxTarget + 1
