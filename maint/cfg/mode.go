package cfg

import (
	"errors"
	"fmt"
	"strings"
)

// Operation is what a program wants to do with a datastore. A lookup, which is answered
// from memory, is no operation: see [Mode.CheckLookup].
type Operation uint8

// The operations. The zero value is none and is refused everywhere.
const (
	Read  Operation = iota + 1 // restore, download, look into an archive
	Write                      // back up, prune, collect garbage, delete
)

// String returns "read" or "write".
func (op Operation) String() string {
	switch op {
	case Read:
		return "read"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("operation %d", uint8(op))
	}
}

// ModeType is the type of a maintenance mode as datastore.cfg spells it.
type ModeType string

// The types, see reference "operations-and-maintenance", section 2.
const (
	None      ModeType = ""
	ReadOnly  ModeType = "read-only"
	Offline   ModeType = "offline"
	Delete    ModeType = "delete"
	Unmount   ModeType = "unmount"
	S3Refresh ModeType = "s3-refresh"

	// Unlisted stands for no mode. The datastore was configured and no longer is, so
	// nothing would count the operations on it. It counts as offline.
	Unlisted ModeType = "unlisted"

	// Unknown stands for a type that this package does not know, and for a property
	// that cannot be read. It counts as offline.
	Unknown ModeType = "unknown"
)

// The reasons for a mode's refusals; errors.Is finds them in a [*ModeError].
var (
	ErrOffline    = errors.New("datastore is offline")
	ErrReadOnly   = errors.New("datastore is read-only")
	ErrUnmounting = errors.New("datastore is being unmounted")
	ErrDeleted    = errors.New("datastore is being deleted")
)

// Sentinel returns the error that stands for a type, nil for None.
func (t ModeType) Sentinel() error {
	switch t {
	case None:
		return nil
	case ReadOnly:
		return ErrReadOnly
	case Delete:
		return ErrDeleted
	case Unmount:
		return ErrUnmounting
	default:
		return ErrOffline
	}
}

// Settable reports whether an administrator may set or clear the type.
func (t ModeType) Settable() bool { return t == ReadOnly || t == Offline }

// Mode is the maintenance mode of one datastore. The zero value is no mode.
type Mode struct {
	Type ModeType
	// Message is the administrator's text, decoded, with control characters replaced.
	Message string
	// Problem says, for Unknown only, what could not be understood.
	Problem string
	// Via is the entry that has the mode, if the datastore was asked for under another
	// name. Both names mean the same datastore.
	Via string

	// Stated is the type at the beginning of an unreadable property, as far as it can
	// be read. An administrator may repair a broken offline, but not a broken or new
	// mode of PBS's own.
	Stated ModeType
}

// Allows reports whether the mode allows op, by the table in reference section 2.
func (m Mode) Allows(op Operation) bool {
	switch m.Type {
	case None:
		return op == Read || op == Write
	case ReadOnly:
		return op == Read
	default:
		return false
	}
}

// Check returns nil if the mode of the datastore allows op, and a [*ModeError]
// otherwise.
func (m Mode) Check(store string, op Operation) error {
	if m.Allows(op) {
		return nil
	}
	if op != Read && op != Write {
		return fmt.Errorf("datastore %s: %v is not an operation", store, op)
	}
	return m.Refusal(store)
}

// Refusal returns the error for operations that the mode forbids.
func (m Mode) Refusal(store string) *ModeError {
	return &ModeError{Store: store, Type: m.Type, Message: m.Message, Problem: m.Problem, Via: m.Via}
}

// ModeError is a refusal by the maintenance mode. errors.Is finds ErrOffline
// (offline, s3-refresh, anything unknown), ErrUnmounting, ErrDeleted and
// ErrReadOnly in it.
type ModeError struct {
	Store   string
	Type    ModeType
	Message string // the administrator's
	Problem string // for Unknown: what could not be understood
	Via     string // the entry that has the mode, if it has another name
}

// Error names the datastore, its mode and the administrator's message.
func (e *ModeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "datastore %s ", e.Store)
	switch e.Type {
	case ReadOnly:
		b.WriteString("is in read-only maintenance")
	case Offline:
		b.WriteString("is in offline maintenance")
	case Delete:
		b.WriteString("is being deleted")
	case Unmount:
		b.WriteString("is being unmounted")
	case S3Refresh:
		b.WriteString("is being refreshed from S3")
	case Unlisted:
		b.WriteString("is no longer in datastore.cfg, so nobody counts what is done with it: unmount it, and mount it again")
	default:
		b.WriteString("has a maintenance mode that cannot be read, taken as offline")
	}
	if e.Via != "" {
		fmt.Fprintf(&b, " (as %s)", e.Via)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.Problem != "" {
		fmt.Fprintf(&b, ": %s", e.Problem)
	}
	return b.String()
}

// Is matches the sentinel of the mode's type.
func (e *ModeError) Is(target error) bool {
	s := e.Type.Sentinel()
	return s != nil && target == s
}
