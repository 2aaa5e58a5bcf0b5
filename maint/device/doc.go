// Package device finds block devices by what is on them, looks for datastores there,
// and mounts a device without a byte of it being changed.
//
// What lies on a device is told from its superblock, for there may be no udev. To be
// looked into, a device is mounted where nobody sees it; types of file systems of
// which it is not known how they are mounted without being changed are refused. A
// device that must not be mounted by anybody else is held ([Hold]).
package device
