// Package probe tells what lies on a disk or in a part of it when no decoder can read it:
// by the marks that formats put at fixed places.
//
// A name is for people. That a mark is there proves nothing about the rest.
package probe
