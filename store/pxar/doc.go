// Package pxar decodes and encodes Proxmox file archives: unified ones (.pxar),
// and the metadata (.mpxar) and payload (.ppxar) halves of split ones. The
// format is described in reference "pxar".
//
// # Shape
//
// An [Archive] is what [Open] learned from the two ends of a stream; it holds
// no source, and every method that reads is given one. From there the tree is
// walked from the top:
//
//	a, err := pxar.Open(r, size)
//	root, err := a.ReadRoot(r)          // an *Entry: metadata, and where it is
//	t, err := a.ReadTable(r, root.Dir)  // the children of a directory
//	c, err := t.Lookup(r, "etc")        // or t.Child(r, i)
//	e, err := a.ReadEntry(r, c)
//
// A [Dir] is a small comparable value that finds a directory again; a caller
// keeps it instead of a [Table], which costs 36 bytes a child.
//
// # Guarantees
//
// No bytes make the package panic, loop, or allocate more than a fixed
// multiple of what the archive really holds. The children of a directory lie
// side by side inside it, so that what is walked is a tree whatever the tables
// say: a child ends at the latest where the next one begins. Depth, path
// length, and the number and size of attributes are limited (limits.go).
//
// Listing and looking up agree: [Table.Lookup] finds exactly the children that
// [Table.Child] delivers, under exactly those names. Of several children with
// one name the one at the lowest position wins and the others are errors. A
// child that cannot be represented is an error of its own and leaves its
// siblings usable; [Table.Err] tells whether the table itself is sound.
//
// # Errors
//
// Wrong bytes give an error that matches [corrupt.Err], with the position in
// the stream; so does a stream that ends before its declared size. A name that
// is not there gives [io/fs.ErrNotExist]. Any other error comes from the source
// and is passed up wrapped. Bytes that are only read ahead never cause an
// error: an entry can be read when the chunks that hold it can.
//
// # Writing
//
// An [Encoder] writes either form to streams, in the order of a walk, and lays
// it out as the official client does:
//
//	e, err := pxar.NewEncoder(w, root)       // or NewSplitEncoder
//	err = e.StartDir("etc", m)
//	s, err := e.AddFile("passwd", m, size, r) // s tells if r was as announced
//	err = e.AddHardlink("shadow", s.Link)
//	err = e.EndDir()
//	err = e.Close()
//
// Metadata gets its extended attributes and ACLs through
// [Metadata.SetAttribute], its flags from [LinuxFlags]. A file has exactly the
// size it was announced with, whatever its source does. The encoder refuses
// what the decoder would, with an error that matches [ErrEntry], before it has
// written anything of it: what cannot be stored can be left out. It writes the
// content of every file, and never refers to that of an earlier archive.
//
// # Concurrency
//
// All types of the decoder are immutable once returned and may be used by
// several goroutines. An Encoder has one user at a time. Nothing blocks but the
// source and the writers.
package pxar
