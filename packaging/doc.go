// Package packaging has what the Debian package consists of beside the installed files,
// and the tests of make install and make deb.
package packaging
