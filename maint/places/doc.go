// Package places remembers which datastore was found where. All that looks at the places
// of datastores goes through it, with no lock held, for a limited time, and once for each
// place until the mounts have changed: places may hang.
package places
