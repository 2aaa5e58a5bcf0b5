// Package imagetest has what the tests of decoders of file systems have in common.
//
// A [Format] says how an image is made. [New] makes it, [Image.Update] changes it as the
// kernel does, [Populate] fills it with awkward content, and [Image.Compare] compares what
// a decoder shows with what a mount shows, in every attribute, name, byte and hole:
//
//	im := imagetest.New(t, imagetest.Format{Type: "ext4", Mkfs: []string{"mkfs.ext4", "-q"}, Size: 64 << 20})
//	im.Update(t, func(dir string) { imagetest.Populate(t, dir, imagetest.Content{}) })
//	im.Compare(t, open)
//
// What a format lacks is said once, as a [Lack], and is neither made nor compared.
//
// [Damage] walks variants of an image with wrong bytes: no panic, no hang, little memory,
// and only errors that say that bytes are wrong. [Unreadable] walks it with pages that
// cannot be read: nothing may be missing or different without an error, and nothing of
// that may be remembered.
//
// It needs root, loop devices and the program that makes the file system. Where one of
// them is missing, the test is skipped with the reason.
package imagetest
