// Package storetest builds small datastores for tests. It is test support: no
// package of the program imports it.
//
// A [Store] is a datastore in a temporary directory. Chunks are written plain,
// or encrypted for snapshots that have a key; indexes, blobs and manifests are
// what a server would have written, as far as a reader looks at them. A
// [Snapshot] appears to readers when it is finished, as a real one does:
//
//	s := storetest.New(t)
//	snap := s.Snapshot("host/alpha", "2023-11-14T23:13:20Z")
//	snap.Pxar("root.pxar.didx", storetest.Dir("", storetest.File("hello", "hi\n")))
//	snap.Finish()
//
// What goes wrong fails the test at once.
package storetest
