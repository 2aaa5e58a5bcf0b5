package pxar

// linuxFlags and fatFlags are the bits of [Metadata.Flags] with what Linux has
// for them: the flags of FS_IOC_GETFLAGS, and the attributes of
// FAT_IOCTL_GET_ATTRIBUTES (reference "pxar", section 8).
var (
	linuxFlags = [...]flagBit{
		{0x10000, 0x20},          // append only
		{0x20000, 0x80},          // no atime
		{0x40000, 0x4},           // compressed
		{0x80000, 0x800000},      // no copy on write
		{0x100000, 0x40},         // no dump
		{0x200000, 0x10000},      // synchronous directory
		{0x400000, 0x10},         // immutable
		{0x800000, 0x8},          // synchronous
		{0x1000000, 0x400},       // do not compress
		{0x2000000, 0x2000_0000}, // children inherit the project
	}
	fatFlags = [...]flagBit{
		{0x2000, 2},  // hidden
		{0x4000, 4},  // system
		{0x8000, 32}, // archive
	}
)

type flagBit struct {
	stored uint64
	linux  uint32
}

// LinuxFlags returns what archives store of the flags that FS_IOC_GETFLAGS
// gives. They are ored into [Metadata.Flags].
func LinuxFlags(attr uint32) uint64 { return storedFlags(linuxFlags[:], attr) }

// FATFlags returns what archives store of the attributes that
// FAT_IOCTL_GET_ATTRIBUTES gives. They are ored into [Metadata.Flags].
func FATFlags(attr uint32) uint64 { return storedFlags(fatFlags[:], attr) }

func storedFlags(bits []flagBit, attr uint32) (flags uint64) {
	for _, b := range bits {
		if attr&b.linux != 0 {
			flags |= b.stored
		}
	}
	return flags
}

// LinuxAttr returns the flags for FS_IOC_SETFLAGS that an archive has stored, the
// opposite of [LinuxFlags].
func LinuxAttr(flags uint64) uint32 { return attrOf(linuxFlags[:], flags) }

// FATAttr returns the attributes for FAT_IOCTL_SET_ATTRIBUTES that an archive has
// stored, the opposite of [FATFlags].
func FATAttr(flags uint64) uint32 { return attrOf(fatFlags[:], flags) }

func attrOf(bits []flagBit, flags uint64) (attr uint32) {
	for _, b := range bits {
		if flags&b.stored != 0 {
			attr |= b.linux
		}
	}
	return attr
}
