// Package device finds block devices by their contents, looks for datastores there, and
// mounts a device without changing a byte of it.
//
// The superblock tells what is on a device, because a host may have no udev. To be
// searched, a device is mounted where no process sees it. A type of file system is
// refused unless a way to mount it without change is known. A device that no other
// program may mount meanwhile is held: see [MountHeld].
package device
