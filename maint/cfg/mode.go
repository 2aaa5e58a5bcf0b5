package cfg

import (
	"errors"
	"fmt"
	"strings"
)

// Operation is what somebody wants to do with a datastore. Lookups, which are
// answered from memory, are no operation: see [Mode.CheckLookup].
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

	// Unlisted stands for no mode: the datastore was configured and is not any
	// more, so that nobody would count what is done with it. It counts as offline.
	Unlisted ModeType = "unlisted"

	// Unknown stands for a type this package does not know and for a
	// property that cannot be read. It counts as offline.
	Unknown ModeType = "unknown"
)

// What a mode refuses with; errors.Is finds them in a [*ModeError].
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
	// Message is what the administrator typed, decoded, with control
	// characters replaced.
	Message string
	// Problem says, for Unknown only, what could not be understood.
	Problem string
	// Via is the entry that has the mode, where that has another name than the
	// datastore was asked for by: both are about the same datastore.
	Via string

	// Stated is the type an unreadable property begins with, as far as that
	// much could be read: a broken offline may be repaired, a broken or new
	// mode of PBS's own may not be touched.
	Stated ModeType
}

// Allows is the table of reference section 2.
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

// Check returns nil when the mode of the datastore allows op, a [*ModeError]
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

// Refusal is the error of what the mode forbids.
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
