// Package backend says what the files of a datastore can lie on, in words that a
// directory of this machine and a bucket share.
//
// A [Backend] is an open datastore. It resolves names relative to the datastore, as they
// are on disk ("host/alpha/2026-11-20T10:00:00Z/index.json.blob"), and nothing leads out
// of it. It only reads. What it returns has not been verified.
//
// Package disk is the backend of a directory, package bucket that of S3.
package backend
