package token

import "fmt"

// Role says what a token may do. Each role includes those before it. The zero Role may
// do nothing.
type Role uint8

const (
	// Audit sees status and lists.
	Audit Role = iota + 1
	// Read also sees contents.
	Read
	// Admin also changes modes.
	Admin
)

// roles are the names of the roles.
var roles = map[Role]string{Audit: "audit", Read: "read", Admin: "admin"}

// ParseRole returns the role with a name.
func ParseRole(text string) (Role, error) {
	for r, name := range roles {
		if name == text {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role %q: want audit, read or admin", text)
}

// String returns the name of the role.
func (r Role) String() string {
	if name, ok := roles[r]; ok {
		return name
	}
	return "none"
}

// May reports whether the role includes another one.
func (r Role) May(need Role) bool {
	_, ours := roles[r]
	_, known := roles[need]
	return ours && known && r >= need
}

// MarshalText returns the name of the role, as it is in the token file.
func (r Role) MarshalText() ([]byte, error) {
	if _, err := ParseRole(r.String()); err != nil {
		return nil, err
	}
	return []byte(r.String()), nil
}

// UnmarshalText is [ParseRole].
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}
