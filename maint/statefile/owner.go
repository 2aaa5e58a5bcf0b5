package statefile

// Owner is the owner of files that we create for other programs to share. With the zero
// value the files stay our own.
type Owner struct {
	UID, GID int
	Set      bool
}
