// Package bucket says where a datastore lies in object storage: the words of a command
// line or of a configuration, parsed into a [Location] and [Credentials] (reference "s3",
// sections 1 and 9). It connects to nothing.
package bucket
