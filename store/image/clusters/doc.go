// Package clusters reads what FAT and exFAT have in common: files that lie in clusters, and
// a table that says for each cluster which one follows.
//
// A chain is followed once, when a file is opened, and kept as runs of clusters that lie
// side by side. A chain that leads back into itself, or out of the disk, is damage; what
// lies before it can be read.
package clusters
