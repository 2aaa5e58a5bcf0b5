// Package places remembers which datastore was found where. Every look at the place of
// a datastore goes through this package, because a place may hang: with no lock held,
// for a limited time, and once for each place until the mounts have changed.
package places
