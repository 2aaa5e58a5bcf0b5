package statefile

// Owner is who files belong to that we create for others to share. The zero
// value leaves them ours.
type Owner struct {
	UID, GID int
	Set      bool
}
