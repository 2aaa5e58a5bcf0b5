package maint

// owner is who files belong to that we create for others to share. The zero
// value leaves them ours.
type owner struct {
	uid, gid int
	set      bool
}
